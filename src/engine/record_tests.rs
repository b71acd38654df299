use super::*;

#[test]
fn a_fence_admits_its_own_repeats_and_nothing_newer() {
    let first = Fence::new(Token([1; 16]));
    let second = first.next();
    assert!(first.admits(first) && second.admits(first));
    assert!(!first.admits(second), "a delayed write must not undo a later one");
    assert!(!second.admits(Fence::new(Token([2; 16]))));
}

#[test]
fn store_keys_round_trip_as_text() {
    let key = StoreKey::from_bytes([0xab; 32]);
    assert_eq!(StoreKey::from_hex(&key.to_string()), Some(key));
    assert_eq!(StoreKey::from_hex("ab"), None);
}
