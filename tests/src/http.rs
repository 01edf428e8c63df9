//! Both ends of HTTP on this machine: the client that tests speak with, and the frame of our own small servers.

use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use poem::http::uri::Scheme;
use poem::web::{LocalAddr, RemoteAddr};
use poem::{Endpoint, Request, Response};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

/// A client for loopback: it ignores proxy settings, follows no redirect and has no time limit of its own.
///
/// # Panics
///
/// When no client can be built on this machine.
#[must_use]
pub fn http_client() -> reqwest::Client {
    // reqwest is built without a TLS provider; an error only says that one is installed already.
    rustls::crypto::ring::default_provider()
        .install_default()
        .ok();
    reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .expect("an HTTP client")
}

/// A server on loopback that lives until it is stopped or dropped, and then takes its connections with it.
///
/// It serves a poem endpoint on hyper itself. Poem's own server polls a connection on after it has failed, so that a
/// body which ends in an error looks complete to the client, and a client that goes away in mid-answer is noticed
/// only at the next write; a fake that exists to cut answers off and to watch clients leave can have neither.
pub(crate) struct LocalServer {
    port: u16,
    stop: CancellationToken,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl LocalServer {
    /// Listens on `port` (0: any free one) before it returns, so that the first request can't come too early.
    ///
    /// # Panics
    ///
    /// When the port is taken.
    pub(crate) async fn start(port: u16, endpoint: impl Endpoint + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
            .await
            .expect("a free port on loopback");
        let port = listener.local_addr().expect("a bound listener").port();
        let stop = CancellationToken::new();
        let task = tokio::spawn(accept(listener, Arc::new(endpoint), stop.clone()));
        Self {
            port,
            stop,
            task: Mutex::new(Some(task)),
        }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Closes the listener and every connection; the port is free when this returns.
    pub(crate) async fn stop(&self) {
        self.stop.cancel();
        let task = self
            .task
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(task) = task {
            task.await.ok();
        }
    }
}

impl Drop for LocalServer {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn accept(
    listener: TcpListener,
    endpoint: Arc<impl Endpoint + 'static>,
    stop: CancellationToken,
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => {
                if let Ok((socket, _)) = accepted {
                    connections.spawn(serve(socket, endpoint.clone()));
                }
            }
        }
    }
    drop(listener);
    connections.shutdown().await;
}

/// An error is the client's or the script's business: it ends this connection and nothing else.
async fn serve(socket: TcpStream, endpoint: Arc<impl Endpoint + 'static>) -> Option<()> {
    // With Nagle's algorithm small deltas would wait 40 ms for each other.
    socket.set_nodelay(true).ok()?;
    let local = LocalAddr(socket.local_addr().ok()?.into());
    let remote = RemoteAddr(socket.peer_addr().ok()?.into());
    let service = service_fn(|request| {
        let endpoint = endpoint.clone();
        let request = Request::from((request, local.clone(), remote.clone(), Scheme::HTTP));
        async move {
            let response: Response = endpoint.get_response(request).await;
            Ok::<hyper::Response<_>, Infallible>(response.into())
        }
    });
    http1::Builder::new()
        .serve_connection(TokioIo::new(socket), service)
        .await
        .ok()
}
