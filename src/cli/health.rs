//! `oncegate health`: for container health checks, without a second program.

use std::{net::SocketAddr, process::ExitCode, time::Duration};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::complain;

const LIMIT: Duration = Duration::from_secs(3);

#[derive(clap::Args, Debug)]
pub(super) struct Arguments {
    /// The admin listener of the gate.
    #[arg(
        long,
        value_name = "ADDR",
        default_value = "127.0.0.1:9901",
        env = "ONCEGATE_ADMIN__LISTEN"
    )]
    admin: SocketAddr,
}

/// Asks `/readyz`.
pub(super) async fn run(arguments: Arguments) -> ExitCode {
    let Arguments { admin } = arguments;
    match tokio::time::timeout(LIMIT, ask(admin)).await {
        Ok(Ok((200, _))) => ExitCode::SUCCESS,
        Ok(Ok((status, body))) => complain(
            ExitCode::FAILURE,
            &format!("http://{admin}/readyz answered {status}: {}", body.trim()),
        ),
        Ok(Err(error)) => {
            complain(ExitCode::FAILURE, &format!("http://{admin}/readyz: {error} (admin.listen)"))
        }
        Err(_) => {
            complain(ExitCode::FAILURE, &format!("http://{admin}/readyz: no answer in {LIMIT:?}"))
        }
    }
}

async fn ask(admin: SocketAddr) -> Result<(u16, String), crate::BoxError> {
    let stream = TcpStream::connect(admin).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = Request::get("/readyz").header("host", admin.to_string());
    let response = sender.send_request(request.body(Empty::<Bytes>::new())?).await?;
    let status = response.status().as_u16();
    let body = response.into_body().collect().await?.to_bytes();
    Ok((status, String::from_utf8_lossy(&body).into_owned()))
}
