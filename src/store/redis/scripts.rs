//! Compare and write, on the server.
//!
//! The scripts of records look at the 20 bytes of the fence and at nothing else, and
//! touch the two keys of one record. Strings compare with `==`, which is by bytes;
//! Lua's `<` follows the server's locale, so revisions are compared as numbers.
//!
//! A function costs the server its making on each run, and a number in a call its
//! printing. So the rule is made only where the fence that is held is not the one
//! that is expected, and arguments are strings.

use std::sync::LazyLock;

use redis::Script;

/// `held`: the encoded fence of what lies there.
const HELD: &str = "local held = redis.call('GETRANGE', KEYS[1], '1', '20')";

/// `admits(expect, held)`: the rule of `Fence::admits`, on encoded fences. One admits
/// itself.
const ADMITS: &str = r"
local function revision(fence)
  local a, b, c, d = string.byte(fence, 17, 20)
  return ((a * 256 + b) * 256 + c) * 256 + d
end
local function admits(expect, held)
  return string.sub(expect, 1, 16) == string.sub(held, 1, 16)
    and revision(held) <= revision(expect)
end
";

/// KEYS: head, response. ARGV: the expected fence, the new record's head, which carries
/// its fence, the head's milliseconds, its response (empty: none), the response's
/// milliseconds. Returns 1 when the record was written, 0 when it was fenced.
pub(super) static SWAP: LazyLock<Script> = LazyLock::new(|| {
    Script::new(&format!(
        "{HELD}
if held ~= ARGV[1] then
{ADMITS}
if #held ~= 20 then return 0 end
if not admits(ARGV[1], held) and not admits(string.sub(ARGV[2], 2, 21), held) then return 0 end
end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
if #ARGV[4] > 0 then
  redis.call('SET', KEYS[2], ARGV[4], 'PX', ARGV[5])
else
  redis.call('DEL', KEYS[2])
end
return 1"
    ))
});

/// KEYS: head, response. ARGV: the expected fence. Returns 1 when there is no
/// record any more, 0 when it was fenced.
pub(super) static REMOVE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(&format!(
        "{HELD}
if held ~= ARGV[1] then
{ADMITS}
if #held == 0 then return 1 end
if #held ~= 20 or not admits(ARGV[1], held) then return 0 end
end
redis.call('DEL', KEYS[1], KEYS[2])
return 1"
    ))
});

/// KEYS: one. ARGV: what lies there (empty: nothing), what shall lie there. Returns
/// what lies there afterwards.
pub(super) static EXCHANGE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local lies = redis.call('GET', KEYS[1])
if (lies or '') ~= ARGV[1] then return lies end
redis.call('SET', KEYS[1], ARGV[2])
return ARGV[2]",
    )
});
