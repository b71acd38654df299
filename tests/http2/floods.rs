//! Row 29 of `docs/faults.md`: clients that try to use the gate up. What they cost stays
//! bounded, and others are served meanwhile.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use tokio::{io::AsyncWriteExt as _, net::TcpSocket};

use crate::{
    both,
    support::{
        backend::{Backend, read},
        client::{post, send},
        eventually,
        gate::Process,
        http2::{
            CONTINUATION, Client, END_HEADERS, END_STREAM, HEADERS, PING, PRIORITY, RST_STREAM,
            Raw, SETTINGS, WINDOW_UPDATE, block, frame, head,
        },
        patience,
    },
};

/// What a connection may have under way.
const UNDER_WAY: usize = 400;

/// By how much the resident memory of a gate may grow while floods of several hundred
/// megabytes come in.
const BOUND: u64 = 48 << 20;

/// The key is claimed and the service works, so a reset ends nothing; and it makes no room.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn resets_of_what_is_under_way() {
    let (backend, gate) = both("").await;
    let flood = Arc::new(Client::open(gate.address).await);
    let refused = Arc::new(AtomicUsize::new(0));
    let mut sent = 0;
    while sent < 3 * UNDER_WAY {
        let streams = (sent..sent + 50).map(|number| {
            let (flood, refused) = (Arc::clone(&flood), Arc::clone(&refused));
            tokio::spawn(async move {
                let answer = flood.post("/gate/a", &format!("k-{number}"), "").await;
                assert_eq!((answer.status, answer.problem()), (503, "overloaded".to_owned()));
                refused.fetch_add(1, SeqCst);
            })
        });
        let streams: Vec<_> = streams.collect();
        sent += streams.len();
        eventually("each of them runs or is refused", async || {
            backend.count() + refused.load(SeqCst) >= sent
        })
        .await;
        // Whose task ends without its answer resets its stream.
        streams.iter().for_each(tokio::task::JoinHandle::abort);
    }
    assert_eq!((backend.count(), refused.load(SeqCst)), (UNDER_WAY, sent - UNDER_WAY));
    // Nobody else is held up, neither by this version nor by the other.
    let other = Client::open(gate.address).await;
    assert_eq!(other.post("/pay", "other", "").await.status, 201);
    assert_eq!(send(gate.address, &post("/pay", "another", "")).await.status, 201);
    // What was reset is finished and recorded, and leaves its place.
    backend.open("a", sent);
    eventually("there is room again", async || {
        flood.post("/gate/a", "k-0", "").await.header("idempotent-replayed") == "true"
    })
    .await;
    assert_eq!(backend.executions("k-0"), 1);
}

/// Without a key an exchange ends with its stream, and the service has begun it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn resets_of_what_has_just_begun() {
    const MOST: usize = 600;
    let (backend, gate) = both("").await;
    let flood = Client::open(gate.address).await;
    for number in 0..2 * MOST {
        let Ok((answer, mut sending)) = flood.begin(head("/gate/a", &[]), true).await else {
            break;
        };
        let begun = async || backend.count() > number || flood.is_closed();
        eventually("it runs, or is refused", begun).await;
        sending.send_reset(h2::Reason::CANCEL);
        drop(answer);
    }
    eventually("it is sent away", async || flood.is_closed()).await;
    assert!(backend.count() <= MOST, "{} were begun", backend.count());
    // One that answers no ping cannot stay for that.
    let (backend, gate) = both("").await;
    let mut silent = Raw::open(gate.address).await;
    let fields: [(&[u8], &[u8]); 4] = [
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":authority", b"g"),
        (b":path", b"/gate/a"),
    ];
    'streams: for number in 0..2 * MOST {
        let stream = u32::try_from(2 * number + 1).unwrap();
        let begin = frame(HEADERS, END_HEADERS | END_STREAM, stream, &block(&fields));
        silent.try_write(&begin).await;
        let since = Instant::now();
        while backend.count() <= number {
            if !silent.try_write(&frame(PRIORITY, 0, stream, &[0; 5])).await {
                break 'streams;
            }
            assert!(since.elapsed() < patience(), "it neither runs nor is its client sent away");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        silent.try_write(&frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes())).await;
    }
    assert!(backend.count() <= MOST, "{} were begun", backend.count());
    // A client that gives up now and then is not, nor is one that resets what goes on.
    let usual = Client::open(gate.address).await;
    for number in 0..MOST {
        if number % 3 == 0 {
            let (answer, mut sending) = usual.begin(head("/gate/a", &[]), true).await.unwrap();
            sending.send_reset(h2::Reason::CANCEL);
            drop(answer);
        } else {
            assert_eq!(usual.send(head("/pay", &[]), b"").await.status, 201);
        }
    }
    assert!(!usual.is_closed());
}

/// Floods that the HTTP library stops, each on twenty connections at a gate of its own
/// process, whose memory is looked at.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floods_of_frames() {
    let backend = Backend::start().await;
    let gate = Process::start("memory:", &backend.url(), None);
    let address = gate.address;
    // What a connection needs at first is not what a flood costs.
    flood(address, &frame(PING, 0, 0, &[0; 8])).await;
    let before = gate.resident();
    let others = tokio::spawn(others(address));
    for (what, is_cut_off, bytes) in floods() {
        let floods = (0..20).map(async |_| {
            let mut raw = flood(address, &bytes).await;
            if is_cut_off {
                let end = tokio::time::timeout(patience(), raw.is_sent_away()).await;
                assert!(end.is_ok(), "{what}: the gate hangs up");
            }
        });
        futures::future::join_all(floods).await;
        let grown = gate.resident().saturating_sub(before);
        assert!(grown < BOUND, "{what}: grown by {grown} bytes");
        println!("{what}: grown by {} KiB", grown >> 10);
    }
    others.abort();
    assert!(others.await.is_err_and(|error| error.is_cancelled()), "others were not served");
    let served = backend.requests().iter().filter(|seen| seen.path() == "/pay").count();
    assert!(served > 5, "others were served {served} times");
}

/// Clients that ask for much, say that they have room for all of it, and read nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_for_which_there_is_room_and_no_reader() {
    const CONNECTIONS: usize = 3;
    const STREAMS: usize = 100;
    let (url, written) = endless().await;
    let gate = Process::start("memory:", &url, None);
    let before = gate.resident();
    let request: [(&[u8], &[u8]); 4] = [
        (b":method", b"GET"),
        (b":scheme", b"http"),
        (b":path", b"/large"),
        (b":authority", b"gate"),
    ];
    let head = block(&request);
    // A window of 2^31 - 1 for each stream, and for the connection.
    let mut bytes = frame(SETTINGS, 0, 0, &[0, 4, 0x7f, 0xff, 0xff, 0xff]);
    bytes.extend(frame(WINDOW_UPDATE, 0, 0, &(0x7fff_ffff_u32 - 65_535).to_be_bytes()));
    for number in 0..STREAMS as u32 {
        bytes.extend(frame(HEADERS, END_HEADERS | END_STREAM, 2 * number + 1, &head));
    }
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut raw = Raw::open(gate.address).await;
        raw.write(&bytes).await;
        clients.push(raw);
    }
    eventually("all are answered, and nothing moves any more", async || {
        let (answers, bytes) = (written.0.load(SeqCst), written.1.load(SeqCst));
        tokio::time::sleep(Duration::from_millis(500)).await;
        answers == CONNECTIONS * STREAMS && bytes == written.1.load(SeqCst)
    })
    .await;
    let grown = gate.resident().saturating_sub(before);
    println!("{CONNECTIONS} clients that do not read: grown by {} KiB", grown >> 10);
    assert!(grown < 2 * BOUND, "grown by {grown} bytes");
}

/// A service whose answers have no end, how many it gives, and how much it has written.
async fn endless() -> (String, Arc<(AtomicUsize, AtomicUsize)>) {
    let socket = TcpSocket::new_v4().unwrap();
    // What waits in the system is nobody's to look at here.
    socket.set_send_buffer_size(32 << 10).unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1024).unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let written = Arc::new((AtomicUsize::new(0), AtomicUsize::new(0)));
    let counted = Arc::clone(&written);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let written = Arc::clone(&counted);
            tokio::spawn(async move {
                if read(&mut stream, &mut Vec::new()).await.is_none() {
                    return;
                }
                let head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n";
                stream.write_all(head).await.unwrap();
                written.0.fetch_add(1, SeqCst);
                while let Ok(length) = stream.write(&[b'x'; 16 << 10]).await {
                    written.1.fetch_add(length, SeqCst);
                }
            });
        }
    });
    (url, written)
}

/// What a flood consists of, about four megabytes each, and whether the gate hangs up on it
/// or only takes its time.
fn floods() -> Vec<(&'static str, bool, Vec<u8>)> {
    let fields = |more: &[(&[u8], &[u8])]| {
        let request: [(&[u8], &[u8]); 4] = [
            (b":method", b"POST"),
            (b":scheme", b"http"),
            (b":path", b"/flood"),
            (b":authority", b"gate"),
        ];
        block(&[&request[..], more].concat())
    };
    let head = fields(&[]);
    // Reset before anybody saw the stream.
    let resets = (0..60_000_u32).flat_map(|number| {
        let stream = 2 * number + 1;
        let head = frame(HEADERS, END_HEADERS, stream, &head);
        [head, frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes())].concat()
    });
    // A field in the table of the connection, and a block that names it 16,000 times.
    let value = [b'x'; 3900];
    let mut bomb = fields(&[(b"x-bomb", &value)]);
    // Before the value come its length in three bytes, the name, and its length in one.
    let field = bomb.len() - value.len() - 3 - b"x-bomb".len() - 2;
    bomb[field] = 0x40;
    let bombs = (0..200_u32).flat_map(|number| {
        let block = if number == 0 { bomb.clone() } else { [&head[..], &[0xbe; 16_000]].concat() };
        frame(HEADERS, END_HEADERS | END_STREAM, 2 * number + 1, &block)
    });
    let open = frame(HEADERS, 0, 1, &head);
    let more = |payload: &[u8]| frame(CONTINUATION, 0, 1, payload);
    let long = more(&block(&[(b"x-long", &[b'x'; 16_000])]));
    let many = more(&block(&vec![(&b"a"[..], &b"b"[..]); 3000]));
    vec![
        ("rapid resets", true, resets.collect()),
        ("long CONTINUATION frames", true, [open.clone(), long.repeat(250)].concat()),
        ("CONTINUATION frames of many fields", true, [open.clone(), many.repeat(250)].concat()),
        ("empty CONTINUATION frames", true, [open, more(b"").repeat(400_000)].concat()),
        ("small blocks that unpack to large ones", false, bombs.collect()),
        ("pings", false, frame(PING, 0, 0, &[7; 8]).repeat(200_000)),
        ("settings", false, frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 100]).repeat(200_000)),
    ]
}

/// Sends a flood without reading, until all is sent, the gate hangs up, or it takes no more.
async fn flood(address: SocketAddr, bytes: &[u8]) -> Raw {
    let mut raw = Raw::open(address).await;
    for piece in bytes.chunks(64 << 10) {
        let taken = tokio::time::timeout(Duration::from_secs(1), raw.try_write(piece)).await;
        if !matches!(taken, Ok(true)) {
            break;
        }
    }
    raw
}

/// Clients of both versions that go on as ever.
async fn others(address: SocketAddr) {
    let client = Client::open(address).await;
    for number in 0.. {
        let key = format!("other-{number}");
        let one = async {
            assert_eq!(send(address, &post("/pay", &key, "")).await.status, 201);
            assert_eq!(client.post("/pay", &key, "").await.header("idempotent-replayed"), "true");
        };
        tokio::time::timeout(patience(), one).await.expect("others are served");
    }
}
