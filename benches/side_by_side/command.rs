//! How a page says what has written it.

/// The whole command line of a benchmark, with those of the `variables` that are set and without
/// folders that only this machine has.
pub(crate) fn line(bench: &str, variables: &[&str]) -> String {
    let arguments = std::env::args_os().skip(1).filter(|argument| argument != "--bench");
    let arguments: Vec<String> =
        arguments.map(|argument| without_folders(&argument.to_string_lossy())).collect();
    let variables: String = variables
        .iter()
        .filter_map(|name| Some((name, std::env::var_os(name)?)))
        .map(|(name, value)| format!("{name}={} ", without_folders(&value.to_string_lossy())))
        .collect();
    let dashes = if arguments.is_empty() { "" } else { " -- " };
    format!("{variables}cargo bench --bench {bench}{dashes}{}", arguments.join(" "))
}

/// A path beneath the project begins there, and of one elsewhere the end is left.
pub(crate) fn without_folders(argument: &str) -> String {
    let (option, value) = argument
        .split_once('=')
        .map_or(("", argument), |(option, value)| (&argument[..=option.len()], value));
    let value = match value.strip_prefix(concat!(env!("CARGO_MANIFEST_DIR"), "/")) {
        Some(inside) => inside.to_owned(),
        None if value.starts_with('/') => {
            format!("...{}", &value[value.rfind('/').unwrap_or_default()..])
        }
        None => value.to_owned(),
    };
    format!("{option}{value}")
}
