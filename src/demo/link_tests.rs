use std::io::ErrorKind;

use tokio::task::JoinHandle;

use super::*;
use crate::demo::part::listen_anywhere;

const NEVER: Odds = Odds { before: 0.0, after: 0.0, seed: 1 };

/// Takes one connection, reads `expect` bytes, answers `pong`, and returns what
/// it has read and how the next read ends.
async fn server(expect: usize) -> (String, JoinHandle<(Vec<u8>, Option<ErrorKind>)>) {
    let Listening { listener, addr } = listen_anywhere().await.unwrap();
    let task = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut seen = vec![0; expect];
        if let Err(error) = stream.read_exact(&mut seen).await {
            return (Vec::new(), Some(error.kind()));
        }
        stream.write_all(b"pong").await.unwrap();
        let ending = stream.read(&mut [0]).await.map_err(|error| error.kind()).err();
        (seen, ending)
    });
    (addr.to_string(), task)
}

async fn link_to(target: String, odds: Odds) -> Link {
    Link::start(vec![(listen_anywhere().await.unwrap(), target)], odds)
}

#[tokio::test]
async fn a_reset_before_the_request_shows_the_server_no_byte_of_it() {
    let (target, server) = server(4).await;
    let link = link_to(target, Odds { before: 1.0, ..NEVER }).await;
    let mut client = TcpStream::connect(link.addrs[0]).await.unwrap();
    client.write_all(b"ping").await.unwrap();
    let error = client.read(&mut [0; 4]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    assert_eq!(server.await.unwrap(), (Vec::new(), Some(ErrorKind::ConnectionReset)));
    assert_eq!((link.resets.before(), link.resets.after()), (1, 0));
    link.stop().await;
}

#[tokio::test]
async fn a_reset_after_the_response_hides_an_executed_request() {
    let (target, server) = server(4).await;
    let link = link_to(target, Odds { after: 1.0, ..NEVER }).await;
    let mut client = TcpStream::connect(link.addrs[0]).await.unwrap();
    client.write_all(b"ping").await.unwrap();
    let error = client.read(&mut [0; 4]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    assert_eq!(server.await.unwrap(), (b"ping".to_vec(), Some(ErrorKind::ConnectionReset)));
    assert_eq!((link.resets.before(), link.resets.after()), (0, 1));
    link.stop().await;
}

#[tokio::test]
async fn a_link_that_does_not_break_forwards_everything_and_half_closes() {
    let Listening { listener, addr } = listen_anywhere().await.unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        // The end of the request is the client's half-close.
        stream.read_to_end(&mut request).await.unwrap();
        request.reverse();
        stream.write_all(&request).await.unwrap();
    });
    let link = link_to(addr.to_string(), NEVER).await;
    let request: Vec<u8> = (0..8_u32 << 18).flat_map(u32::to_le_bytes).collect();
    let mut client = TcpStream::connect(link.addrs[0]).await.unwrap();
    client.write_all(&request).await.unwrap();
    client.shutdown().await.unwrap();
    let mut response = Vec::new();
    client.read_to_end(&mut response).await.unwrap();
    response.reverse();
    assert!(response == request, "{} bytes came back of {}", response.len(), request.len());
    assert_eq!((link.resets.before(), link.resets.after()), (0, 0));
    link.stop().await;
}

#[tokio::test]
async fn without_a_target_the_client_is_reset() {
    let gone = listen_anywhere().await.unwrap().addr;
    let link = link_to(gone.to_string(), NEVER).await;
    let mut client = TcpStream::connect(link.addrs[0]).await.unwrap();
    let error = client.read(&mut [0]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    link.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_stop_does_not_wait_for_an_idle_connection_for_ever() {
    let (target, _server) = server(4).await;
    let link = link_to(target, NEVER).await;
    let addr = link.addrs[0];
    let mut client = TcpStream::connect(addr).await.unwrap();
    // The byte ensures that the link has accepted the connection.
    client.write_all(b"ping").await.unwrap();
    client.read_exact(&mut [0; 4]).await.unwrap();
    link.stop().await;
    let error = client.read(&mut [0]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    assert!(TcpStream::connect(addr).await.is_err(), "it listens no more");
}

#[test]
fn a_seed_repeats_its_decisions_and_the_shares_are_as_asked() {
    let draw = |seed| {
        let odds = Odds { before: 0.3, after: 0.3, seed };
        let mut draw = Draw { odds, rng: Rng::with_seed(seed) };
        (0..10_000).map(|_| draw.fate()).collect::<Vec<_>>()
    };
    let fates = draw(7);
    assert_eq!(fates, draw(7));
    assert_ne!(fates, draw(8));
    let share = |fate| fates.iter().filter(|drawn| **drawn == fate).count() as f64 / 10_000.0;
    assert!((share(Fate::ResetBefore) - 0.3).abs() < 0.02);
    assert!((share(Fate::ResetAfter) - 0.21).abs() < 0.02);
}
