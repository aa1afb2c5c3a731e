//! Versions of a plugin: a guest's component with a manifest of the test's.

use holdfast::plugin::{Code, Manifest};
use serde_json::Value;

use super::guests::guest;
use super::{Answer, TestHost, until};

/// The component of `guest` as the plugin `id`, asking for `requests` (TOML).
pub(crate) fn version(component: &str, id: &str, number: &str, requests: &str) -> Vec<u8> {
    let text = format!("id = \"{id}\"\nversion = \"{number}\"\n[requests]\n{requests}");
    let manifest = Manifest::parse(&text).expect("a manifest");
    manifest.embed(std::fs::read(guest(component)).expect("the component"))
}

pub(crate) fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", Code::new(bytes.to_vec()).digest())
}

impl TestHost {
    /// Puts the bytes into the plugin folder, as somebody beside the server does.
    pub(crate) fn drop_in(&self, id: &str, bytes: &[u8]) {
        let part = self.folder().join(format!("plugins/{id}.part"));
        std::fs::write(&part, bytes).expect("a file");
        std::fs::rename(part, self.folder().join(format!("plugins/{id}.wasm"))).expect("it moves");
    }

    /// What the admin sees of a plugin.
    pub(crate) async fn plugin(&self, id: &str) -> Value {
        self.get(&format!("/api/admin/plugins/{id}")).await.body
    }

    /// Waits until the admin sees that of a plugin.
    pub(crate) async fn plugin_once(&self, id: &str, holds: impl Fn(&Value) -> bool) -> Value {
        until("the plugin changes", async || holds(&self.plugin(id).await)).await;
        self.plugin(id).await
    }

    /// Installs a component over HTTP.
    pub(crate) async fn install(&self, id: &str, bytes: Vec<u8>) -> Answer {
        let request = self.request(reqwest::Method::PUT, &format!("/api/admin/plugins/{id}"));
        self.send(request.header("content-type", "application/wasm").body(bytes)).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.send(self.request(reqwest::Method::DELETE, path)).await
    }
}
