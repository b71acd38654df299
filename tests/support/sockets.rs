//! What the system knows of a connection of the loopback, for tests that would have to guess
//! how long something takes to arrive, and what it can be made to do.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    time::timeout,
};

/// Waits until everything that was written, its end included, is with the other end.
pub async fn arrives(stream: &TcpStream) {
    #[cfg(target_os = "linux")]
    {
        let (own, peer) = (stream.local_addr().unwrap(), stream.peer_addr().unwrap());
        let end = || linux::Socket::find(own, peer);
        super::eventually("it arrives", async || end().is_none_or(|end| end.unsent == 0)).await;
    }
    #[cfg(not(target_os = "linux"))]
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
}

/// Somebody whose queue is full, so that what comes is not answered, and what fills it.
pub async fn silent() -> (SocketAddr, (TcpListener, Vec<TcpStream>)) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut queued = Vec::new();
    let moment = Duration::from_millis(100);
    while let Ok(stream) = timeout(moment, TcpStream::connect(address)).await {
        queued.push(stream.unwrap());
    }
    (address, (listener, queued))
}

#[cfg(target_os = "linux")]
pub mod linux {
    use std::net::SocketAddr;

    /// One end of a connection.
    #[derive(Debug)]
    pub struct Socket {
        /// Bytes that the other end's system has not taken; the end of all counts as one.
        pub unsent: u64,
        /// Which timer runs; 2 is the one for signs of life.
        pub timer: u64,
    }

    impl Socket {
        /// The end at `own` of the connection with `peer`; `None` when it is gone.
        pub fn find(own: SocketAddr, peer: SocketAddr) -> Option<Self> {
            let [own, peer] = [own, peer].map(|address| format!(":{:04X}", address.port()));
            let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
            // Number, addresses, state, queues, timer.
            let mut lines = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
            let fields =
                lines.find(|fields| fields[1].ends_with(&own) && fields[2].ends_with(&peer))?;
            let number = |text: &str| u64::from_str_radix(text, 16).unwrap();
            let (unsent, _) = fields[4].split_once(':').unwrap();
            let (timer, _) = fields[5].split_once(':').unwrap();
            Some(Self { unsent: number(unsent), timer: number(timer) })
        }
    }
}
