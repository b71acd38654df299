//! What each part of the house must not know, read from its sources: see the map in
//! `docs/architecture.md`.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The sources below a folder of `src`, without what only tests see.
fn sources(folder: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if path.is_dir() {
                folders.push(path);
            } else if name.ends_with(".rs") && !name.ends_with("tests.rs") {
                let text = fs::read_to_string(&path).unwrap();
                let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
                let is_code = |line: &&str| !line.trim_start().starts_with("//");
                found.push((path, code.lines().filter(is_code).collect::<Vec<_>>().join("\n")));
            }
        }
    }
    assert!(found.len() > 3, "{folder} has its sources");
    found
}

/// Panics where a source below `folder` names one of `words`.
fn names_none_of(folder: &str, words: &[&str]) {
    for (path, code) in sources(folder) {
        for word in words {
            assert!(!code.contains(word), "{} must not know `{word}`", path.display());
        }
    }
}

#[test]
fn the_engine_decides_without_runtime_clock_and_store() {
    let clocks = ["Instant", "SystemTime", "ambient::System"];
    let others = ["tokio", "crate::store", "crate::layer", "crate::proxy", "std::fs", "std::net"];
    names_none_of("engine", &[&clocks[..], &others].concat());
}

#[test]
fn a_store_knows_no_http_and_nobody_above_it() {
    let others = ["crate::layer", "crate::proxy", "crate::config", "http::Response"];
    names_none_of("store/embedded", &others);
    names_none_of("store/redis", &[&others[..], &["StatusCode"]].concat());
}

#[test]
fn the_layer_knows_no_store_by_its_name() {
    let stores = ["RedisStore", "EmbeddedStore", "crate::proxy", "crate::config", "hyper::"];
    names_none_of("layer", &stores);
}
