//! The disk that forced writes of the embedded store go to, if it is one.

use std::{
    fmt,
    fs::{self, File},
    io::{self, Seek as _, Write as _},
    path::Path,
    time::{Duration, Instant},
};

use rustix::fs::statfs;

/// How many forced writes are made to see what one takes, and how large each is.
const WRITES: usize = 200;
const SIZE: usize = 4096;

/// File systems by the number that `statfs` says (statfs(2) has a list).
const KINDS: [(u64, &str); 9] = [
    (0xef53, "ext4"),
    (0x5846_5342, "XFS"),
    (0x9123_683e, "Btrfs"),
    (0x2fc1_2fc1, "ZFS"),
    (0xf2f5_2010, "F2FS"),
    (0x794c_7630, "overlayfs"),
    (0x6969, "NFS"),
    (TMPFS, "tmpfs"),
    (RAMFS, "ramfs"),
];
const TMPFS: u64 = 0x0102_1994;
const RAMFS: u64 = 0x8584_58f6;

/// What is beneath a folder.
pub(crate) enum Beneath {
    /// Where a forced write costs nothing and keeps nothing.
    Memory,
    /// With what a reader of figures should know of it.
    Disk(String),
}

/// Why nothing is measured on [`Beneath::Memory`], with what to do.
pub(crate) const MEMORY: &str =
    "not measured: the disk is memory; CARGO_TARGET_DIR=FOLDER puts the files on another one";

impl Beneath {
    pub(crate) fn of(folder: &Path) -> io::Result<Self> {
        // The number has 32 bits, and as many more where the sign was extended.
        let system = System(statfs(folder)?.f_type as u64 & 0xffff_ffff);
        if matches!(system.0, TMPFS | RAMFS) {
            return Ok(Self::Memory);
        }
        let took = forced_write(folder)?.as_secs_f64() * 1e3;
        Ok(Self::Disk(format!(
            "the embedded store is on {system}, where a forced write of {SIZE} bytes takes \
             {took:.2} ms (the median of {WRITES})"
        )))
    }
}

/// The number of a file system.
struct System(u64);

impl fmt::Display for System {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match KINDS.iter().find(|(number, _)| *number == self.0) {
            Some((_, name)) => f.write_str(name),
            None => write!(f, "a file system of type {:#x}", self.0),
        }
    }
}

/// What a forced write takes in a folder: the median of some, one after the other, over what was
/// written before, as those of the store's journal are.
fn forced_write(folder: &Path) -> io::Result<Duration> {
    let path = folder.join("forced-writes");
    let mut file = File::create(&path)?;
    file.write_all(&vec![0; WRITES * SIZE])?;
    file.sync_data()?;
    file.rewind()?;
    let mut took = [Duration::ZERO; WRITES];
    for took in &mut took {
        let begun = Instant::now();
        file.write_all(&[7; SIZE])?;
        file.sync_data()?;
        *took = begun.elapsed();
    }
    fs::remove_file(path)?;
    took.sort_unstable();
    Ok(took[WRITES / 2])
}
