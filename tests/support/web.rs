//! A web server that does as it is told, and a network in which names lead to it.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt as _;
use holdfast::plugin::Network;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// An address that is public, and nobody's: documentation ranges would be refused.
pub(crate) const PUBLIC: &str = "93.184.215.14";

/// What is sent back.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// These pieces, each in a packet of its own, and then the end.
    Pieces(Vec<Vec<u8>>),
    /// This, and then the same piece again and again.
    Endless(Vec<u8>, Vec<u8>),
    /// This, and then nothing more.
    Silence(Vec<u8>),
    /// This, and then a byte of the piece now and then, for ever.
    Drip(Vec<u8>, Vec<u8>),
}

/// A whole response with this body.
pub(crate) fn ok(body: &str) -> Reply {
    let length = body.len();
    Reply::Pieces(vec![format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{body}").into_bytes()])
}

/// A response of these very bytes.
pub(crate) fn raw(text: &str) -> Reply {
    Reply::Pieces(vec![text.as_bytes().to_vec()])
}

type Answer = dyn Fn(&str) -> Reply + Send + Sync;

/// Between two bytes of a [`Reply::Drip`].
const DRIP: Duration = Duration::from_millis(20);

pub(crate) struct Web {
    pub(crate) address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
    left: Arc<AtomicU64>,
}

impl Web {
    /// `answer` gets the request as it was sent.
    pub(crate) async fn start(answer: impl Fn(&str) -> Reply + Send + Sync + 'static) -> Self {
        Self::open(Arc::new(answer), None).await
    }

    pub(crate) async fn start_tls(
        tls: TlsAcceptor,
        answer: impl Fn(&str) -> Reply + Send + Sync + 'static,
    ) -> Self {
        Self::open(Arc::new(answer), Some(tls)).await
    }

    async fn open(answer: Arc<Answer>, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (seen, left) = (Arc::clone(&requests), Arc::new(AtomicU64::new(0)));
        let leaving = Arc::clone(&left);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                stream.set_nodelay(true).expect("a socket");
                let (answer, seen, tls) = (Arc::clone(&answer), Arc::clone(&seen), tls.clone());
                let left = Arc::clone(&leaving);
                tokio::spawn(async move {
                    let served = match tls {
                        None => serve(stream, &*answer, &seen).await,
                        // A client that does not trust the certificate hangs up.
                        Some(tls) => match tls.accept(stream).await {
                            Ok(stream) => serve(stream, &*answer, &seen).await,
                            Err(_) => Ok(()),
                        },
                    };
                    left.fetch_add(u64::from(served.is_err()), Ordering::SeqCst);
                });
            }
        });
        Self { address, requests, left }
    }

    /// The requests so far.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().expect("no test panics in here").clone()
    }

    /// How many clients closed their connection before the response was over.
    pub(crate) fn left(&self) -> u64 {
        self.left.load(Ordering::SeqCst)
    }
}

/// An error is that the client is gone.
async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    answer: &Answer,
    seen: &Mutex<Vec<String>>,
) -> io::Result<()> {
    let mut request = Vec::new();
    while !is_whole(&String::from_utf8_lossy(&request)) {
        let mut piece = [0; 8192];
        let read = stream.read(&mut piece).await?;
        if read == 0 {
            return Ok(());
        }
        request.extend_from_slice(&piece[..read]);
    }
    let request = String::from_utf8_lossy(&request).into_owned();
    seen.lock().expect("no test panics in here").push(request.clone());
    match answer(&request) {
        Reply::Pieces(pieces) => {
            for piece in pieces {
                stream.write_all(&piece).await?;
                stream.flush().await?;
                // So that pieces arrive one by one.
                tokio::task::yield_now().await;
            }
            stream.shutdown().await
        }
        Reply::Endless(start, piece) => {
            stream.write_all(&start).await?;
            loop {
                stream.write_all(&piece).await?;
            }
        }
        Reply::Silence(start) => {
            stream.write_all(&start).await?;
            stream.flush().await?;
            // Until the other side hangs up.
            stream.read_exact(&mut [0]).await.map(|_| ())
        }
        Reply::Drip(start, piece) => {
            stream.write_all(&start).await?;
            for byte in piece.iter().cycle() {
                stream.write_all(&[*byte]).await?;
                stream.flush().await?;
                tokio::time::sleep(DRIP).await;
            }
            Ok(())
        }
    }
}

fn is_whole(request: &str) -> bool {
    let Some((head, body)) = request.split_once("\r\n\r\n") else { return false };
    let head = head.to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
    match length {
        Some(length) => body.len() >= length,
        None => !head.contains("transfer-encoding: chunked") || body.ends_with("0\r\n\r\n"),
    }
}

/// Who asked for what in a [`World`].
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) look_ups: Vec<String>,
    pub(crate) connections: Vec<String>,
}

/// Names and their addresses; every connection, wherever it is meant to go, leads to one server.
pub(crate) struct World {
    names: Mutex<BTreeMap<String, Vec<Vec<IpAddr>>>>,
    seen: Mutex<Seen>,
    server: SocketAddr,
}

impl World {
    pub(crate) fn new(server: SocketAddr) -> Arc<Self> {
        Arc::new(Self { names: Mutex::default(), seen: Mutex::default(), server })
    }

    /// What a name leads to: the first answer, then the second, and from then on the last.
    pub(crate) fn name(self: &Arc<Self>, name: &str, answers: &[&[&str]]) -> Arc<Self> {
        let parse = |answer: &&[&str]| answer.iter().map(|text| text.parse().expect("an address")).collect();
        let answers = answers.iter().map(parse).collect();
        self.names.lock().expect("no test panics in here").insert(name.to_owned(), answers);
        Arc::clone(self)
    }

    pub(crate) fn seen(&self) -> Seen {
        std::mem::take(&mut self.seen.lock().expect("no test panics in here"))
    }

    /// A name without answers is looked up for ever.
    pub(crate) fn network(self: &Arc<Self>) -> Network {
        let (names, wires) = (Arc::clone(self), Arc::clone(self));
        Network::new(
            move |name| {
                names.seen.lock().expect("no test panics in here").look_ups.push(name.clone());
                let mut known = names.names.lock().expect("no test panics in here");
                let Some(answers) = known.get_mut(&name) else {
                    return async { Err(io::ErrorKind::NotFound.into()) }.boxed();
                };
                if answers.is_empty() {
                    return std::future::pending().boxed();
                }
                let answer = if answers.len() > 1 { answers.remove(0) } else { answers[0].clone() };
                async move { Ok(answer) }.boxed()
            },
            move |address| {
                wires.seen.lock().expect("no test panics in here").connections.push(address.to_string());
                TcpStream::connect(wires.server).boxed()
            },
        )
    }
}
