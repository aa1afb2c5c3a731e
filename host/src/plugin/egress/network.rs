//! From a destination to an open connection: one look-up, every address of its answer checked, and the
//! connection made to an address that was checked.
//!
//! No proxies, and no connection is used twice: what one request left behind on it would be the next one's.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use rustls::ClientConfig;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls_platform_verifier::Verifier;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use url::Host;

use super::decision::{Destination, literal};
use crate::address::is_public;

type LookUp = Arc<dyn Fn(String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> + Send + Sync>;
type Connect = Arc<dyn Fn(SocketAddr) -> BoxFuture<'static, io::Result<TcpStream>> + Send + Sync>;

/// The network as plugins reach it. Tests put a resolver and a wiring of their own in its place.
#[derive(Clone)]
pub struct Network {
    look_up: LookUp,
    connect: Connect,
    /// Certificates of authorities that are trusted besides the system's.
    pub authorities: Vec<CertificateDer<'static>>,
}

impl Default for Network {
    fn default() -> Self {
        Self::new(
            |name| {
                async move {
                    let found = tokio::net::lookup_host((name, 0)).await?;
                    Ok(found.map(|address| address.ip()).collect())
                }
                .boxed()
            },
            |address| TcpStream::connect(address).boxed(),
        )
    }
}

impl Network {
    /// `look_up` gets a name in its normal form; `connect` gets one of the addresses that were checked.
    pub fn new(
        look_up: impl Fn(String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> + Send + Sync + 'static,
        connect: impl Fn(SocketAddr) -> BoxFuture<'static, io::Result<TcpStream>> + Send + Sync + 'static,
    ) -> Self {
        Self { look_up: Arc::new(look_up), connect: Arc::new(connect), authorities: Vec::new() }
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Network").field("authorities", &self.authorities.len()).finish_non_exhaustive()
    }
}

/// Look-ups of one plugin under way. The system's resolver takes a thread for each, cannot be stopped, and may take
/// half a minute over a name whose owner does not want to answer.
const LOOK_UPS: usize = 8;

/// Opens connections.
#[derive(Clone)]
pub(in super::super) struct Connector {
    network: Network,
    tls: TlsConnector,
    look_ups: Arc<Semaphore>,
}

#[derive(Debug)]
pub(super) enum ConnectError {
    /// The name has no address.
    Unknown,
    /// One of its addresses.
    NotPublic(IpAddr),
    Refused,
    Tls,
}

impl Connector {
    pub(in super::super) fn new(network: Network) -> Result<Self, rustls::Error> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = Verifier::new_with_extra_roots(network.authorities.clone(), Arc::clone(&provider))?;
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        // A ticket would let a server recognise one plugin's calls in another's.
        config.resumption = rustls::client::Resumption::disabled();
        let look_ups = Arc::new(Semaphore::new(LOOK_UPS));
        Ok(Self { network, tls: TlsConnector::from(Arc::new(config)), look_ups })
    }

    /// The same for another plugin: what keeps one from looking names up is not in the other's way.
    pub(in super::super) fn for_another(&self) -> Self {
        Self { look_ups: Arc::new(Semaphore::new(LOOK_UPS)), ..self.clone() }
    }

    /// The addresses that a connection may be made to.
    pub(super) async fn addresses(&self, to: &Destination) -> Result<Vec<SocketAddr>, ConnectError> {
        let addresses = match (literal(&to.host), &to.host) {
            (Some(address), _) => vec![address],
            (None, host) => self.look_up(host.to_string()).await?,
        };
        if addresses.is_empty() {
            return Err(ConnectError::Unknown);
        }
        // One that is not public is enough: which one is connected to must not be a matter of luck.
        if let (false, Some(inside)) = (to.private, addresses.iter().find(|address| !is_public(**address))) {
            return Err(ConnectError::NotPublic(*inside));
        }
        Ok(addresses.into_iter().map(|address| SocketAddr::new(address, to.port)).collect())
    }

    async fn look_up(&self, name: String) -> Result<Vec<IpAddr>, ConnectError> {
        let place = Arc::clone(&self.look_ups).acquire_owned().await.map_err(|_| ConnectError::Unknown)?;
        let looking = (self.network.look_up)(name);
        // It goes on, and keeps its place, when nobody waits for it any more.
        let found = tokio::spawn(async move {
            let found = looking.await;
            drop(place);
            found
        });
        found.await.ok().and_then(Result::ok).ok_or(ConnectError::Unknown)
    }

    /// A connection to the first address that takes one, all of them within `patience`.
    pub(super) async fn connect(
        &self,
        addresses: &[SocketAddr],
        patience: Duration,
    ) -> Result<TcpStream, ConnectError> {
        let each = patience / u32::try_from(addresses.len()).unwrap_or(u32::MAX).max(1);
        for address in addresses {
            if let Ok(Ok(stream)) = tokio::time::timeout(each, (self.network.connect)(*address)).await {
                return Ok(stream);
            }
        }
        Err(ConnectError::Refused)
    }

    pub(super) async fn secure(
        &self,
        stream: TcpStream,
        host: &Host<String>,
    ) -> Result<TlsStream<TcpStream>, ConnectError> {
        let name = match (literal(host), host) {
            (Some(address), _) => ServerName::from(address),
            (None, name) => ServerName::try_from(name.to_string()).map_err(|_| ConnectError::Tls)?,
        };
        self.tls.connect(name, stream).await.map_err(|_| ConnectError::Tls)
    }
}
