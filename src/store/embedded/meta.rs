//! What the tables say of themselves.
//!
//! | table | key | value |
//! |---|---|---|
//! | `meta` | `"format"` | [`FORMAT`] |
//! | `meta` | `"journal"` | the last frame of the journal that the tables hold (absent: 0) |
//! | `meta` | `"secret.0"` to `"secret.3"` | what the frames of the journal are hashed with |
//! | `meta` | `"extents"` | see [`responses`] |
//!
//! The secret is drawn with the tables and never changes. With another one the journal would
//! read as if nothing were in it, so its second half is a digest of the first.

use redb::{Database, ReadableTable};

use super::{
    index,
    journal::Secret,
    responses,
    tables::{Broken, FORMAT, META, RECORDS, broken, corrupted},
};
use crate::{ambient::Ambient, engine::record::Token};

const SECRET: [&str; 4] = ["secret.0", "secret.1", "secret.2", "secret.3"];

/// What is known of tables of this format.
#[derive(Debug)]
pub(super) struct Meta {
    /// They were created just now.
    pub(super) are_new: bool,
    /// The last frame of the journal that they hold.
    pub(super) moved: u64,
    pub(super) secret: Secret,
}

/// Creates the tables of a new file, and reads what they say of themselves. The error within is
/// the format of tables that have another.
pub(super) fn prepare(
    database: &Database,
    ambient: &dyn Ambient,
) -> Result<Result<Meta, u64>, Broken> {
    let transaction = database.begin_write().map_err(broken)?;
    let mut meta = transaction.open_table(META).map_err(broken)?;
    match number(&meta, "format")? {
        Some(FORMAT) => {
            let (moved, secret) = (number(&meta, "journal")?.unwrap_or(0), secret(&meta)?);
            return Ok(Ok(Meta { are_new: false, moved, secret }));
        }
        Some(other) => return Ok(Err(other)),
        None => {}
    }
    let secret = secret_of(ambient.token());
    meta.insert("format", FORMAT).map_err(broken)?;
    for (name, part) in SECRET.into_iter().zip(secret.as_chunks().0) {
        meta.insert(name, u64::from_be_bytes(*part)).map_err(broken)?;
    }
    drop(meta);
    index::create(&transaction)?;
    transaction.open_table(RECORDS).map_err(broken)?;
    responses::create(&transaction)?;
    transaction.commit().map_err(broken)?;
    Ok(Ok(Meta { are_new: true, moved: 0, secret }))
}

fn number(meta: &impl ReadableTable<&'static str, u64>, name: &str) -> Result<Option<u64>, Broken> {
    Ok(meta.get(name).map_err(broken)?.map(|number| number.value()))
}

fn secret(meta: &impl ReadableTable<&'static str, u64>) -> Result<Secret, Broken> {
    let damaged = || corrupted("a secret that is not as it was drawn");
    let mut secret = [0; 32];
    for (name, part) in SECRET.into_iter().zip(secret.as_chunks_mut().0) {
        *part = number(meta, name)?.ok_or_else(damaged)?.to_be_bytes();
    }
    let drawn = Token(*secret.first_chunk().expect("16 of 32 bytes"));
    if secret_of(drawn) == secret { Ok(secret) } else { Err(damaged()) }
}

fn secret_of(drawn: Token) -> Secret {
    let mut secret = [0; 32];
    let (first, second) = secret.split_at_mut(16);
    first.copy_from_slice(&drawn.0);
    second.copy_from_slice(&blake3::hash(&drawn.0).as_bytes()[..16]);
    secret
}

#[cfg(test)]
mod tests {
    use redb::backends::InMemoryBackend;

    use super::*;
    use crate::ambient::System;

    fn database() -> Database {
        Database::builder().create_with_backend(InMemoryBackend::new()).unwrap()
    }

    #[test]
    fn tables_keep_their_secret() {
        let [first, other] = [database(), database()];
        let secret_of = |database| prepare(database, &System).unwrap().unwrap().secret;
        let secret = secret_of(&first);
        assert_eq!(secret_of(&first), secret);
        assert_ne!(secret_of(&other), secret);
    }

    #[test]
    fn a_damaged_secret_is_an_error() {
        for name in SECRET {
            let database = database();
            prepare(&database, &System).unwrap().unwrap();
            let transaction = database.begin_write().unwrap();
            let mut meta = transaction.open_table(META).unwrap();
            let before = number(&meta, name).unwrap().unwrap();
            meta.insert(name, before ^ 1).unwrap();
            drop(meta);
            transaction.commit().unwrap();
            prepare(&database, &System).unwrap_err();
        }
    }
}
