//! What an embedded store may take.

/// How to use the memory of the machine.
///
/// # Defaults
/// 96 MiB for pages of the tables.
///
/// ```no_run
/// use std::sync::Arc;
///
/// use oncegate::{
///     ambient::System,
///     store::{EmbeddedOptions, EmbeddedStore},
/// };
///
/// // Room for the index of ten million records.
/// let options = EmbeddedOptions { page_cache: 640 << 20 };
/// let store = EmbeddedStore::open_with("./oncegate-data", Arc::new(System), options)?;
/// # Ok::<(), oncegate::store::StoreError>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct EmbeddedOptions {
    /// The memory for pages of the tables, in bytes. It is taken as they are used, and not
    /// before there are hundreds of thousands of records.
    ///
    /// Records that are read again soon are in the cache of done records anyway, and the rest
    /// in that of the operating system. A new key costs the same with any size, as long as half
    /// of it has room for what a transaction writes, some 32 MiB. An old record is found
    /// microseconds sooner when its page of the index is here: 50 bytes a record for all.
    ///
    /// What tells new keys from old ones takes another 1.5 bytes a record, and is no part of
    /// this.
    pub page_cache: usize,
}

impl Default for EmbeddedOptions {
    fn default() -> Self {
        Self { page_cache: crate::store::PAGE_CACHE }
    }
}
