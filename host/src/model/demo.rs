//! wip
pub(super) struct Demo;
#[async_trait::async_trait]
impl super::Model for Demo {
    async fn reply(&self, _r: &super::Request) -> Result<crate::session::Reply, super::ModelError> {
        Ok(Default::default())
    }
}
