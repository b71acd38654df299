//! A service with a ledger by key, and moods.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpListener, TcpStream},
};

use crate::support::backend;

/// How the service treats its callers.
#[derive(Clone, Copy, Debug)]
pub struct Temper {
    /// How long it takes at the most, in milliseconds.
    pub slowness: u64,
    /// How many of a thousand requests are reset before they are executed, after,
    /// in the middle of the response, or turned away with 429.
    pub resets: u16,
}

/// The service.
#[derive(Clone)]
pub struct Shop {
    address: SocketAddr,
    ledger: Arc<Mutex<HashMap<String, usize>>>,
    executions: Arc<AtomicUsize>,
    temper: Temper,
}

impl Shop {
    pub async fn open(temper: Temper, seed: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shop = Self { address, ledger: Arc::default(), executions: Arc::default(), temper };
        let (serving, mut random) = (shop.clone(), fastrand::Rng::with_seed(seed));
        tokio::spawn(async move {
            loop {
                if let Ok((stream, _)) = listener.accept().await {
                    let (shop, random) = (serving.clone(), random.fork());
                    tokio::spawn(async move { shop.serve(stream, random).await });
                }
            }
        });
        shop
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// How often each key was executed.
    pub fn ledger(&self) -> HashMap<String, usize> {
        self.ledger.lock().unwrap().clone()
    }

    async fn serve(&self, mut stream: TcpStream, mut random: fastrand::Rng) {
        stream.set_nodelay(true).unwrap();
        let mut buffer = Vec::new();
        while let Some(request) = backend::read(&mut stream, &mut buffer).await {
            let key = request.header("idempotency-key").unwrap_or_default().to_owned();
            tokio::time::sleep(Duration::from_millis(random.u64(0..=self.temper.slowness))).await;
            let mood = random.u16(0..1000);
            let [before, after, middle, away] = [1, 2, 3, 4].map(|n| n * self.temper.resets);
            if mood < before {
                return stream.set_zero_linger().unwrap();
            }
            if (middle..away).contains(&mood) {
                let away = b"HTTP/1.1 429 Later\r\nContent-Length: 0\r\n\r\n";
                match stream.write_all(away).await {
                    Ok(()) => continue,
                    Err(_) => return,
                }
            }
            *self.ledger.lock().unwrap().entry(key.clone()).or_default() += 1;
            let number = self.executions.fetch_add(1, Relaxed);
            // No two executions answer alike.
            let body = format!("execution {number} for {key}");
            let head = "HTTP/1.1 201 Created\r\nContent-Type: text/plain\r\nContent-Length";
            let response = format!("{head}: {}\r\n\r\n{body}", body.len());
            let length = match mood {
                mood if mood < after => 0,
                mood if mood < middle => response.len() - 3,
                _ => response.len(),
            };
            let written = stream.write_all(&response.as_bytes()[..length]).await;
            if written.is_err() || length < response.len() {
                return;
            }
        }
    }
}
