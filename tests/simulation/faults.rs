//! The kinds of faults, and how often each happened.

use std::ops::{AddAssign, Index};

/// The kinds of faults, to count them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    GateKilled,
    GateDied,
    GatePaused,
    GateDrained,
    GateClockStepped,
    StoreClockStepped,
    StoreDown,
    StoreSlow,
    StoreRequestLost,
    StoreReplyLost,
    StoreReplyLostRepeated,
    StoreLate,
    StoreDuplicated,
    BackendRefused,
    BackendResetBefore,
    BackendResetOnTheWay,
    BackendResetAfter,
    BackendTimeout,
    BackendTruncated,
    BackendSlow,
    BackendStatus,
    ClientLeft,
    LookupFailed,
    OperatorResolved,
}

impl Fault {
    pub const ALL: [Self; 24] = [
        Self::GateKilled,
        Self::GateDied,
        Self::GatePaused,
        Self::GateDrained,
        Self::GateClockStepped,
        Self::StoreClockStepped,
        Self::StoreDown,
        Self::StoreSlow,
        Self::StoreRequestLost,
        Self::StoreReplyLost,
        Self::StoreReplyLostRepeated,
        Self::StoreLate,
        Self::StoreDuplicated,
        Self::BackendRefused,
        Self::BackendResetBefore,
        Self::BackendResetOnTheWay,
        Self::BackendResetAfter,
        Self::BackendTimeout,
        Self::BackendTruncated,
        Self::BackendSlow,
        Self::BackendStatus,
        Self::ClientLeft,
        Self::LookupFailed,
        Self::OperatorResolved,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::GateKilled => "gate killed",
            Self::GateDied => "gate died at a store operation",
            Self::GatePaused => "gate paused",
            Self::GateDrained => "gate drained",
            Self::GateClockStepped => "clock of a gate stepped",
            Self::StoreClockStepped => "clock of the store stepped",
            Self::StoreDown => "store down, operations refused",
            Self::StoreSlow => "store slow",
            Self::StoreRequestLost => "store request lost",
            Self::StoreReplyLost => "store reply lost",
            Self::StoreReplyLostRepeated => "store reply lost, command repeated",
            Self::StoreLate => "store command executed after its time-out",
            Self::StoreDuplicated => "store command executed again later",
            Self::BackendRefused => "backend refused the connection",
            Self::BackendResetBefore => "reset before execution",
            Self::BackendResetOnTheWay => "reset, executed later",
            Self::BackendResetAfter => "reset after execution",
            Self::BackendTimeout => "time-out, perhaps executed later",
            Self::BackendTruncated => "response truncated",
            Self::BackendSlow => "backend slower than the lease",
            Self::BackendStatus => "status 401, 429, 500, 502 or 503",
            Self::ClientLeft => "client left",
            Self::LookupFailed => "lookup failed",
            Self::OperatorResolved => "operator resolved a key",
        }
    }
}

/// How often each fault happened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults([u64; Fault::ALL.len()]);

impl Index<Fault> for Faults {
    type Output = u64;

    fn index(&self, fault: Fault) -> &u64 {
        &self.0[fault as usize]
    }
}

impl Faults {
    pub fn add(&mut self, fault: Fault) {
        self.0[fault as usize] += 1;
    }
}

impl AddAssign<&Self> for Faults {
    fn add_assign(&mut self, other: &Self) {
        self.0.iter_mut().zip(&other.0).for_each(|(sum, more)| *sum += more);
    }
}
