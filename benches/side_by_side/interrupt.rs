//! Ctrl-C and SIGTERM as an error, so that what was started is stopped on the way out.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use tokio::signal::unix::{SignalKind, signal};

use crate::Result;

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Waits for signals from here on. A second one ends the program at once.
pub(crate) fn watch() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let (mut interrupt, mut terminate) = {
        let _inside = runtime.enter();
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
    };
    thread::spawn(move || {
        runtime.block_on(async {
            let mut either = async || {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
            };
            either().await;
            INTERRUPTED.store(true, Ordering::Relaxed);
            either().await;
            std::process::exit(130);
        });
    });
    Ok(())
}

/// # Errors
/// When a signal came.
pub(crate) fn check() -> Result<()> {
    if INTERRUPTED.load(Ordering::Relaxed) {
        return Err("interrupted; nothing was written".into());
    }
    Ok(())
}
