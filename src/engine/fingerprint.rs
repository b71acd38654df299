//! What makes two requests the same request.
//!
//! A fingerprint is a keyed digest over method, path and query, principal and
//! body. Headers take no part (clients that retry change them). Every field is
//! length-prefixed, so no two different requests feed the same bytes.

use std::fmt;

use arrayvec::ArrayVec;
use http::request::Parts;

use super::{
    canonical,
    facet::Facet,
    policy::{BodyMatch, Policy},
    record::StoreKey,
};

/// The digest of a request: 32 bytes, equal when the requests are the same.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// The bytes, as they are stored.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Reads a fingerprint back from a store.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({:02x}{:02x}..)", self.0[0], self.0[1])
    }
}

/// The keys of the two digests, derived from one secret.
///
/// All gates that share a store must use the same secret: with another one they
/// would not see each other's claims. The empty secret is allowed; a secret of
/// one's own keeps somebody who can read the store from guessing short keys.
#[derive(Clone)]
pub struct Hasher {
    names: [u8; 32],
    prints: [u8; 32],
}

impl Hasher {
    /// Derives both digest keys from `secret`.
    #[must_use]
    pub fn new(secret: &[u8]) -> Self {
        Self {
            names: blake3::derive_key("oncegate 2026-11 store key v1", secret),
            prints: blake3::derive_key("oncegate 2026-11 fingerprint v1", secret),
        }
    }

    /// The name under which a store keeps `key`, for a request in `scope`.
    #[must_use]
    pub fn store_key(&self, scope: &[Facet], head: &Parts, key: &str) -> StoreKey {
        let mut digest = Digest::new(&self.names);
        digest.count(scope.len());
        scope.iter().for_each(|facet| facet.digest(head, &mut digest));
        digest.field(key.as_bytes());
        StoreKey::from_bytes(digest.finish())
    }

    /// The fingerprint of a request under `policy`.
    #[must_use]
    pub fn fingerprint(&self, policy: &Policy, head: &Parts, body: &[u8]) -> Fingerprint {
        let mut digest = Digest::new(&self.prints);
        digest.request(policy, head);
        match policy.fingerprint_body {
            BodyMatch::Exact => digest.field(body),
            BodyMatch::Json => canonical::digest(body, &policy.fingerprint_ignore, &mut digest),
            BodyMatch::Ignore => {}
        }
        Fingerprint(digest.finish())
    }

    /// The key of a request that carries none: the digest of the whole of it
    /// (content-based deduplication).
    pub(crate) fn content_key(&self, policy: &Policy, head: &Parts, body: &[u8]) -> String {
        let mut digest = Digest::new(&self.prints);
        digest.request(policy, head);
        digest.field(body);
        blake3::Hash::from_bytes(digest.finish()).to_hex().to_string()
    }
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hasher(..)")
    }
}

/// What one call of the hash function takes at its best.
const CHUNK: usize = blake3::CHUNK_LEN;

/// A keyed digest over length-prefixed fields.
///
/// Most requests fit a chunk, and are hashed in one call; the state for longer ones is
/// two kilobytes, and made when it is needed.
pub(crate) struct Digest {
    key: [u8; 32],
    gathered: ArrayVec<u8, CHUNK>,
    long: Option<Box<blake3::Hasher>>,
}

impl Digest {
    pub(crate) fn new(key: &[u8; 32]) -> Self {
        Self { key: *key, gathered: ArrayVec::new(), long: None }
    }

    pub(crate) fn count(&mut self, count: usize) {
        self.update(&(count as u64).to_le_bytes());
    }

    fn update(&mut self, bytes: &[u8]) {
        if self.long.is_none() && self.gathered.try_extend_from_slice(bytes).is_ok() {
            return;
        }
        let long = self.long.get_or_insert_with(|| Box::new(blake3::Hasher::new_keyed(&self.key)));
        long.update(&self.gathered);
        self.gathered.clear();
        long.update(bytes);
    }

    pub(crate) fn field(&mut self, bytes: &[u8]) {
        self.count(bytes.len());
        self.update(bytes);
    }

    pub(crate) fn optional(&mut self, bytes: Option<&[u8]>) {
        self.count(usize::from(bytes.is_some()));
        if let Some(bytes) = bytes {
            self.field(bytes);
        }
    }

    fn request(&mut self, policy: &Policy, head: &Parts) {
        self.field(head.method.as_str().as_bytes());
        self.field(head.uri.path_and_query().map_or("/", |path| path.as_str()).as_bytes());
        self.count(policy.principal.len());
        policy.principal.iter().for_each(|facet| facet.digest_principal(head, self));
    }

    pub(crate) fn finish(&self) -> [u8; 32] {
        let hash = match &self.long {
            None => blake3::keyed_hash(&self.key, &self.gathered),
            Some(long) => long.finalize(),
        };
        *hash.as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// However the fields are cut, and on both sides of a chunk's length.
    #[test]
    fn what_is_gathered_is_hashed_as_one_piece() {
        let key = [7; 32];
        for lengths in [&[0, 5][..], &[1000, 8], &[1008], &[1009], &[600, 600, 3], &[5000, 1]] {
            let mut digest = Digest::new(&key);
            let mut plain = blake3::Hasher::new_keyed(&key);
            for length in lengths {
                let field = vec![b'x'; *length];
                digest.field(&field);
                plain.update(&(*length as u64).to_le_bytes()).update(&field);
            }
            assert_eq!(digest.finish(), *plain.finalize().as_bytes(), "{lengths:?}");
        }
    }
}
