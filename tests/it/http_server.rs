//! HTTP servers on this machine.

use std::error::Error;

use http::{Request, Response};
use hyper::body::{Body, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};

/// Serves requests on a free port with this number of threads, until the runtime is dropped. Returns the URL of the server.
pub(crate) fn serve<A, R, B, E>(threads: usize, answer: A) -> (String, Runtime)
where
    A: Fn(Request<Incoming>) -> R + Clone + Send + 'static,
    R: Future<Output = Result<Response<B>, E>> + Send + 'static,
    B: Body<Data: Send, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
    E: Into<Box<dyn Error + Send + Sync>> + 'static,
{
    let runtime = Builder::new_multi_thread().worker_threads(threads).enable_all().build().unwrap();
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    runtime.spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            // Otherwise the body waits 40 ms until the headers are acknowledged.
            socket.set_nodelay(true).unwrap();
            let service = service_fn(answer.clone());
            tokio::spawn(async move {
                // A connection that a test breaks is not an error of the server.
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(socket), service).await.ok();
            });
        }
    });
    (url, runtime)
}

/// Runs a future to completion.
pub(crate) fn wait<T>(future: impl Future<Output = T>) -> T {
    Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}
