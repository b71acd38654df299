//! What can fail before the first request, each as one line that names the setting.

use std::{fmt, io, net::SocketAddr, sync::Arc};

use tokio::net::TcpListener;

use super::observe::Metrics;
use crate::{
    config::{StoreConfig, StoreUrl},
    store::{MemoryStore, ObservedStore, Store},
};

/// A gate that could not start.
#[derive(Debug)]
pub struct StartError(String);

impl StartError {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }

    pub(crate) fn listen(setting: &str, address: SocketAddr, error: &io::Error) -> Self {
        let advice = match error.kind() {
            io::ErrorKind::AddrInUse => {
                "the port is in use; stop the other process or choose another port"
            }
            io::ErrorKind::AddrNotAvailable => "this machine does not have the address",
            io::ErrorKind::PermissionDenied => {
                "ports below 1024 need a privilege; choose a higher one"
            }
            _ => return Self(format!("{setting}: cannot listen on {address}: {error}")),
        };
        Self(format!("{setting}: cannot listen on {address}: {advice}"))
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for StartError {}

/// Listens.
pub(crate) async fn listen(setting: &str, address: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(address).await.map_err(|error| StartError::listen(setting, address, &error))
}

/// Opens the store that the configuration names.
pub(crate) async fn store(
    config: &StoreConfig,
    metrics: &Metrics,
) -> Result<Arc<dyn Store>, StartError> {
    Ok(match &config.url {
        StoreUrl::Memory => observed(MemoryStore::default(), metrics),
        StoreUrl::File(folder) => embedded(folder, config, metrics)?,
        StoreUrl::Redis(url) => redis(url, config, metrics).await?,
    })
}

fn observed(store: impl Store, metrics: &Metrics) -> Arc<dyn Store> {
    metrics.collect(|| Arc::new(ObservedStore::new(store)))
}

#[cfg(feature = "embedded")]
fn embedded(
    folder: &std::path::Path,
    config: &StoreConfig,
    metrics: &Metrics,
) -> Result<Arc<dyn Store>, StartError> {
    let options = embedded_options(config);
    let store =
        crate::store::EmbeddedStore::open_with(folder, Arc::new(crate::ambient::System), options)
            .map_err(|error| StartError::new(error.to_string()))?;
    Ok(observed(store, metrics))
}

#[cfg(feature = "embedded")]
fn embedded_options(config: &StoreConfig) -> crate::store::EmbeddedOptions {
    let mut options = crate::store::EmbeddedOptions::default();
    options.page_cache = config.page_cache.unwrap_or(options.page_cache);
    options.reply_timeout = config.timeout;
    options
}

#[cfg(feature = "redis")]
async fn redis(
    url: &str,
    config: &StoreConfig,
    metrics: &Metrics,
) -> Result<Arc<dyn Store>, StartError> {
    use crate::store::StoreErrorKind;

    let options = crate::store::RedisOptions {
        reply_timeout: config.timeout,
        allow_eviction: config.allow_eviction,
        durability: config.durability,
        refuse_after_loss: config.refuse_after_loss,
        ..crate::store::RedisOptions::default()
    };
    let store = crate::store::RedisStore::connect(url, options)
        .map_err(|error| StartError::new(error.to_string()))?;
    // A gate that cannot reach its store could only refuse; who starts it should know.
    store.verify().await.map_err(|error| {
        // A server that answers says itself what is wrong; that is no error underneath.
        let is_silent = match error.kind() {
            StoreErrorKind::Unavailable => std::error::Error::source(&error).is_some(),
            StoreErrorKind::Timeout => true,
            StoreErrorKind::Misconfigured | StoreErrorKind::Corrupt | StoreErrorKind::DataLost => {
                false
            }
        };
        let hint = if is_silent { "; is Redis running there?" } else { "" };
        StartError::new(format!("store.url: {} cannot be used: {error}{hint}", config.url))
    })?;
    Ok(observed(store, metrics))
}

#[cfg(not(feature = "embedded"))]
fn embedded(
    _: &std::path::Path,
    _: &StoreConfig,
    _: &Metrics,
) -> Result<Arc<dyn Store>, StartError> {
    Err(StartError::new(
        "store.url: this program was built without the feature `embedded`; use redis:// or memory:",
    ))
}

#[cfg(not(feature = "redis"))]
async fn redis(_: &str, _: &StoreConfig, _: &Metrics) -> Result<Arc<dyn Store>, StartError> {
    Err(StartError::new(
        "store.url: this program was built without the feature `redis`; use file:FOLDER or memory:",
    ))
}

#[cfg(all(test, feature = "embedded"))]
mod tests {
    use super::*;

    #[test]
    fn the_embedded_store_gets_the_page_cache_that_is_set() {
        let set = StoreConfig { page_cache: Some(1 << 20), ..StoreConfig::default() };
        assert_eq!(embedded_options(&set).page_cache, 1 << 20);
        let usual = crate::store::EmbeddedOptions::default().page_cache;
        assert_eq!(embedded_options(&StoreConfig::default()).page_cache, usual);
    }
}
