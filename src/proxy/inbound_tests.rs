use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn paced() -> (DuplexStream, Paced<DuplexStream>, Pace) {
    let (client, server) = duplex(64);
    let limits = Limits { head_timeout: 60 * SECOND, idle_timeout: 60 * SECOND };
    let (paced, pace) = Paced::new(server, limits, Instant::now(), &Closing::default());
    (client, paced, pace)
}

/// Waits for a byte that does not come.
async fn wait(paced: &mut Paced<DuplexStream>, time: Duration) {
    let read = tokio::time::timeout(time, paced.read_u8()).await;
    assert!(read.is_err(), "{read:?}");
}

#[tokio::test(start_paused = true)]
async fn a_connection_rests_when_nothing_happens() {
    let (_client, mut paced, pace) = paced();
    let begin = Instant::now();
    wait(&mut paced, REST / 2).await;
    assert!(!pace.is_resting());
    wait(&mut paced, REST).await;
    assert!(pace.is_resting());
    assert_eq!(paced.into_parts().1, begin);
}

#[tokio::test(start_paused = true)]
async fn a_connection_rests_between_two_requests_only() {
    let (mut client, mut paced, pace) = paced();
    wait(&mut paced, 2 * REST).await;
    client.write_all(b"h").await.unwrap();
    paced.read_u8().await.unwrap();
    assert!(!pace.is_resting(), "something came");
    wait(&mut paced, 9 * REST).await;
    assert!(!pace.is_resting(), "a head has begun");
    let (busy, unread) = (pace.begin(), pace.unread());
    wait(&mut paced, 9 * REST).await;
    assert!(!pace.is_resting(), "an exchange is under way");
    drop(busy);
    wait(&mut paced, 9 * REST).await;
    assert!(!pace.is_resting(), "the body was not read to its end");
    unread.end();
    paced.write_all(b"answer").await.unwrap();
    wait(&mut paced, 9 * REST).await;
    assert!(!pace.is_resting(), "the answer may not have left");
    wait(&mut paced, 99 * REST).await;
    paced.flush().await.unwrap();
    wait(&mut paced, 9 * REST).await;
    assert!(pace.is_resting());
    for (given_up, rests) in [(true, false), (false, true)] {
        client.write_all(b"h").await.unwrap();
        paced.read_u8().await.unwrap();
        drop(pace.begin());
        if given_up {
            drop(pace.unread());
        }
        wait(&mut paced, 9 * REST).await;
        assert_eq!(pace.is_resting(), rests, "a body was given up: {given_up}");
    }
    let _busy = pace.begin();
    let late = pace.unread();
    drop(pace.begin());
    let _unread = pace.unread();
    late.end();
    wait(&mut paced, 9 * REST).await;
    assert!(!pace.is_resting(), "the end of an earlier body says nothing of this one");
}

#[tokio::test(start_paused = true)]
async fn an_exchange_that_was_over_at_once_ends_its_head() {
    let (mut client, mut paced, pace) = paced();
    client.write_all(b"h").await.unwrap();
    paced.read_u8().await.unwrap();
    wait(&mut paced, REST / 2).await;
    let begin = Instant::now();
    drop(pace.begin());
    wait(&mut paced, 2 * REST).await;
    assert!(pace.is_resting());
    assert_eq!(paced.into_parts().1, begin);
}

#[tokio::test]
async fn a_long_head_is_kept_until_its_exchange_has_begun() {
    for (length, is_kept) in [(100, true), (20_000, false)] {
        let (mut client, server) = duplex(64 << 10);
        let limits = Limits { head_timeout: SECOND, idle_timeout: SECOND };
        let (mut paced, pace) = Paced::new(server, limits, Instant::now(), &Closing::default());
        let field = "x".repeat(length);
        let head = format!("POST / HTTP/1.1\r\nContent-Length: 1\r\nX: {field}\r\n\r\n");
        client.write_all(head.as_bytes()).await.unwrap();
        paced.read_exact(&mut vec![0; head.len()]).await.unwrap();
        let _busy = pace.begin();
        assert!(pace.head_has_length());
        client.write_all(b"1").await.unwrap();
        paced.read_u8().await.unwrap();
        assert_eq!(pace.head_has_length(), is_kept, "{length}");
    }
}
