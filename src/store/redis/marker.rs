//! How a gate notices that a Redis lost its data set: pure.
//!
//! Under one key, [`NAME`], lies a marker that never expires. The first gate on an
//! empty server plants it; every gate remembers its epoch.
//!
//! | the marker | the server | so |
//! |---|---|---|
//! | is gone, or has an epoch that nobody told of | | the data set is another one: emptied, or started without it |
//! | is there | was promoted since | the last acknowledged writes may have been elsewhere |
//! | is there | runs under another id, and forced every write before and after | nothing acknowledged is gone |
//! | is there | runs under another id | the last acknowledged writes may be gone |
//!
//! A loss is written into the marker, so that it outlives the gate that noticed it
//! and every other gate learns of it, until an operator acknowledges it. It names
//! the epochs that ended, so that a gate which comes late knows whether the loss
//! that was acknowledged is the one that it sees.

use serde::{Deserialize, Serialize};

use crate::{
    engine::record::Timestamp,
    mutants::{Mutant, is_active},
};

/// The key of the marker.
pub(super) const NAME: &str = "oncegate:marker";

/// What a gate leaves in the server to recognise the data set by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Marker {
    /// A random name of the data set.
    pub(super) epoch: String,
    /// The run id of the server that holds it.
    pub(super) run_id: String,
    /// Whether it forced every write; `None` where an earlier version left the marker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) forced: Option<bool>,
    /// The history that it went on with when it was promoted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) promoted: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) loss: Option<Loss>,
}

/// Data that is gone, or may be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Loss {
    /// When it was noticed, by the clock of the gate that did.
    pub(super) at: u64,
    pub(super) why: Why,
    /// The epochs that ended.
    #[serde(default)]
    pub(super) of: Vec<String>,
    #[serde(default)]
    pub(super) acknowledged: bool,
}

impl Loss {
    /// Whether it is the same one, whoever noticed it and when.
    pub(super) fn is(&self, other: &Self) -> bool {
        (self.why, &self.of) == (other.why, &other.of)
    }
}

/// What shows that data was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Why {
    /// The marker is gone, or is another one.
    Emptied,
    /// The server started anew, or another one took its place.
    Restarted,
}

impl Why {
    pub(super) const fn explain(self) -> &'static str {
        match self {
            Self::Emptied => "has lost its data set: it was emptied, or started without it",
            Self::Restarted => {
                "was restarted without forcing every write before and after, or replaced, \
                 so the last records may be gone"
            }
        }
    }
}

/// What is known of the server at this moment.
#[derive(Clone, Debug)]
pub(super) struct Seen<'a> {
    pub(super) run_id: &'a str,
    /// Whether nothing that it acknowledges can be lost by a restart.
    pub(super) forces_writes: bool,
    /// The history that it went on with when it was promoted.
    pub(super) promoted: Option<&'a str>,
    pub(super) now: Timestamp,
}

/// The marker as it has to be: `known` is the epoch that this gate remembers, `found`
/// what lies in the server, `fresh` the name for a new epoch.
pub(super) fn judge(
    known: Option<&str>,
    found: Option<&Marker>,
    server: &Seen<'_>,
    fresh: &str,
) -> Marker {
    let (run_id, forced) = (server.run_id.to_owned(), Some(server.forces_writes));
    let promoted = server.promoted.map(str::to_owned);
    let loss = |why, before: Option<&Loss>, ended: Option<&str>| {
        let mut of = before.map_or_else(Vec::new, |loss| loss.of.clone());
        of.extend(ended.map(str::to_owned));
        Some(Loss { at: server.now.0, why, of, acknowledged: false })
    };
    let Some(found) = found else {
        let loss = known.and_then(|epoch| loss(Why::Emptied, None, Some(epoch)));
        return Marker { epoch: fresh.to_owned(), run_id, forced, promoted, loss };
    };
    let mut marker = Marker { run_id, forced, promoted, ..found.clone() };
    let before = found.loss.as_ref();
    let is_told = |epoch: &str| {
        epoch == found.epoch || before.is_some_and(|loss| loss.of.iter().any(|of| of == epoch))
    };
    if let Some(epoch) = known.filter(|epoch| !is_told(epoch)) {
        marker.loss = loss(Why::Emptied, before, Some(epoch));
    } else if is_doubtful(found, server) {
        // Whoever finds the server emptied as well says so; this is the smaller loss.
        let is_open = before.is_some_and(|loss| !loss.acknowledged);
        if !is_open {
            marker.loss = loss(Why::Restarted, before, None);
        }
    }
    marker
}

/// Whether the server may lack what was acknowledged last where the marker was left.
fn is_doubtful(found: &Marker, server: &Seen<'_>) -> bool {
    let is_another = found.run_id != server.run_id;
    // What a replica had not heard of is gone however it writes. A server that was promoted
    // before its marker could say so is judged when its id changes.
    let was_promoted = server.promoted.is_some()
        && server.promoted != found.promoted.as_deref()
        && (is_another || found.forced.is_some())
        && !is_active(Mutant::OverlookPromotion);
    was_promoted || is_another && !(server.forces_writes && found.forced == Some(true))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVER: Seen<'static> =
        Seen { run_id: "run-1", forces_writes: false, promoted: None, now: Timestamp(1000) };

    fn marker(epoch: &str, run_id: &str, loss: Option<Loss>) -> Marker {
        let (epoch, run_id) = (epoch.to_owned(), run_id.to_owned());
        Marker { epoch, run_id, forced: Some(false), promoted: None, loss }
    }

    fn loss(why: Why, of: &[&str], acknowledged: bool) -> Option<Loss> {
        let of = of.iter().map(ToString::to_string).collect();
        Some(Loss { at: 1000, why, of, acknowledged })
    }

    #[test]
    fn an_empty_server_is_marked_without_alarm() {
        assert_eq!(judge(None, None, &SERVER, "new"), marker("new", "run-1", None));
    }

    #[test]
    fn what_has_not_changed_stays() {
        let there = marker("a", "run-1", None);
        assert_eq!(judge(Some("a"), Some(&there), &SERVER, "new"), there);
        assert_eq!(judge(None, Some(&there), &SERVER, "new"), there, "a gate that starts");
    }

    #[test]
    fn a_marker_that_is_gone_is_a_loss() {
        let lost = marker("new", "run-1", loss(Why::Emptied, &["a"], false));
        assert_eq!(judge(Some("a"), None, &SERVER, "new"), lost);
    }

    #[test]
    fn a_marker_that_somebody_new_has_planted_hides_nothing() {
        let planted = marker("b", "run-1", None);
        let lost = marker("b", "run-1", loss(Why::Emptied, &["a"], false));
        assert_eq!(judge(Some("a"), Some(&planted), &SERVER, "new"), lost);
    }

    #[test]
    fn a_loss_that_was_acknowledged_alarms_nobody_else() {
        let told = marker("b", "run-1", loss(Why::Emptied, &["a"], true));
        assert_eq!(judge(Some("a"), Some(&told), &SERVER, "new"), told);
        let other = judge(Some("z"), Some(&told), &SERVER, "new");
        assert_eq!(other.loss, loss(Why::Emptied, &["a", "z"], false), "another data set");
    }

    #[test]
    fn a_restart_is_a_loss_unless_every_write_is_forced() {
        let there = marker("a", "run-0", None);
        for known in [Some("a"), None] {
            let lost = marker("a", "run-1", loss(Why::Restarted, &[], false));
            assert_eq!(judge(known, Some(&there), &SERVER, "new"), lost);
            let forces = Seen { forces_writes: true, ..SERVER };
            let forced = |marker: Marker| Marker { forced: Some(true), ..marker };
            let sound = forced(marker("a", "run-1", None));
            assert_eq!(judge(known, Some(&forced(there.clone())), &forces, "new"), sound);
            // It forces every write since it was started, and did not before.
            assert_eq!(judge(known, Some(&there), &forces, "new"), forced(lost));
        }
    }

    #[test]
    fn a_promotion_is_a_loss_however_the_server_writes() {
        let promoted = Seen { forces_writes: true, promoted: Some("history"), ..SERVER };
        let forced = |run_id: &str| Marker { forced: Some(true), ..marker("a", run_id, None) };
        for before in ["run-0", "run-1"] {
            let judged = judge(Some("a"), Some(&forced(before)), &promoted, "new");
            assert_eq!(judged.loss, loss(Why::Restarted, &[], false), "it was {before}");
            assert_eq!(judged.promoted.as_deref(), Some("history"));
            let told = Marker { loss: None, ..judged };
            assert_eq!(judge(Some("a"), Some(&told), &promoted, "new"), told, "it is known");
            let restarted = Seen { run_id: "run-2", promoted: None, ..promoted.clone() };
            assert_eq!(judge(Some("a"), Some(&told), &restarted, "new").loss, None);
        }
        let old = Marker { forced: None, ..forced("run-1") };
        assert_eq!(judge(Some("a"), Some(&old), &promoted, "new").loss, None, "long ago, perhaps");
    }

    #[test]
    fn a_restart_does_not_cover_up_that_the_server_was_emptied() {
        let open = marker("b", "run-0", loss(Why::Emptied, &["a"], false));
        let kept = marker("b", "run-1", loss(Why::Emptied, &["a"], false));
        assert_eq!(judge(Some("a"), Some(&open), &SERVER, "new"), kept);
    }

    #[test]
    fn a_marker_is_text_that_people_can_read() {
        let text = serde_json::to_string(&marker("a", "r", loss(Why::Emptied, &["z"], false)));
        let plain = r#"{"epoch":"a","run_id":"r","forced":false,"loss":{"at":1000,"why":"emptied","of":["z"],"acknowledged":false}}"#;
        assert_eq!(text.unwrap(), plain);
        assert_eq!(
            serde_json::from_str::<Marker>(r#"{"epoch":"a","run_id":"r","later":1}"#).unwrap(),
            Marker { forced: None, ..marker("a", "r", None) },
            "fields may be added"
        );
    }
}
