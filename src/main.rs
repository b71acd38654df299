//! `oncegate`: arguments, configuration, run.

use std::process::ExitCode;

fn main() -> ExitCode {
    // For the sake of this reference every linker takes the allocator's library, whose `malloc`
    // then stands in for that of the C library.
    std::hint::black_box(mimalloc::MiMalloc.version());
    oncegate::cli::main()
}
