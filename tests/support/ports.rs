//! Ports that stay free while nobody listens there.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    ops::Range,
};

/// Below those that the system gives to connections and to whoever asks for any.
const PORTS: Range<u16> = 20_000..32_000;

/// A port of the loopback that no other test takes, for as long as this lives: the UDP port
/// of the same number is held meanwhile.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _held: UdpSocket,
}

impl Port {
    /// A port on which nobody listens.
    ///
    /// # Panics
    /// When there is none.
    pub fn take() -> Self {
        for _ in 0..1000 {
            let number = fastrand::u16(PORTS);
            let Ok(held) = UdpSocket::bind((Ipv4Addr::LOCALHOST, number)) else { continue };
            if TcpListener::bind((Ipv4Addr::LOCALHOST, number)).is_ok() {
                return Self { number, _held: held };
            }
        }
        panic!("no free port in {PORTS:?}");
    }

    pub fn number(&self) -> u16 {
        self.number
    }

    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.number).into()
    }
}
