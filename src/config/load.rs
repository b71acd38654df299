//! Reading the settings, and saying where they are wrong.

use std::{ffi::OsString, fmt, net::SocketAddr, path::PathBuf};

use super::{Config, links::is_service_link, raw::Raw, target::UpstreamUrl, values::Text};
use crate::mutants;

const PREFIX: &str = "ONCEGATE_";

/// Where settings come from, later ones winning: text, environment, flags.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    text: String,
    file: Option<PathBuf>,
    environment: Vec<(String, String)>,
    overrides: Overrides,
}

/// Settings that have a flag.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// `--listen`.
    pub listen: Option<SocketAddr>,
    /// `--upstream`.
    pub upstream: Option<UpstreamUrl>,
    /// `--store`.
    pub store: Option<String>,
    /// `--admin`.
    pub admin: Option<SocketAddr>,
}

impl Sources {
    /// Settings from a text, as in a file.
    #[must_use]
    pub fn text(text: &str) -> Self {
        Self { text: text.to_owned(), ..Self::default() }
    }

    /// Settings from a file.
    ///
    /// # Errors
    /// [`ConfigError`] when the file cannot be read.
    pub fn file(path: PathBuf) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(&path).map_err(|error| ConfigError {
            place: path.display().to_string(),
            message: format!("cannot be read: {error}"),
        })?;
        Ok(Self { text, file: Some(path), ..Self::default() })
    }

    /// Adds the variables that begin with `ONCEGATE_`; `__` separates sections, as
    /// in `ONCEGATE_STORE__URL`. Those that tell where a Service of Kubernetes is are
    /// left alone.
    #[must_use]
    pub fn environment(mut self, variables: impl IntoIterator<Item = (String, String)>) -> Self {
        let is_setting = |name: &str, value: &str| {
            name.starts_with(PREFIX)
                && !mutants::is_switch(name)
                && !is_service_link(&name[PREFIX.len() - 1..], value)
        };
        self.environment
            .extend(variables.into_iter().filter(|(name, value)| is_setting(name, value)));
        self.environment.sort();
        self
    }

    /// The same with variables as the system has them, which need not be text.
    ///
    /// # Errors
    /// [`ConfigError`] when one that begins with `ONCEGATE_` is no UTF-8.
    pub fn os_environment(
        self,
        variables: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, ConfigError> {
        let ours = variables
            .into_iter()
            .filter(|(name, _)| name.as_encoded_bytes().starts_with(PREFIX.as_bytes()));
        let text = ours.map(|(name, value)| match (name.into_string(), value.into_string()) {
            (Ok(name), Ok(value)) => Ok((name, value)),
            (name, _) => Err(ConfigError {
                place: format!(
                    "environment variable {}",
                    name.unwrap_or_else(|name| name.to_string_lossy().into_owned())
                ),
                message: "it is not valid UTF-8".to_owned(),
            }),
        });
        Ok(self.environment(text.collect::<Result<Vec<_>, _>>()?))
    }

    /// Adds flags.
    #[must_use]
    pub fn overrides(mut self, overrides: Overrides) -> Self {
        self.overrides = overrides;
        self
    }
}

impl Config {
    /// Reads and checks all settings.
    ///
    /// # Errors
    /// [`ConfigError`] naming the file, line and column, or the variable, and the
    /// setting.
    pub fn load(sources: &Sources) -> Result<Self, ConfigError> {
        let place =
            sources.file.as_ref().map_or("configuration".to_owned(), |f| f.display().to_string());
        let mut raw: Raw = toml::from_str(&sources.text)
            .map_err(|error| ConfigError { place: place.clone(), message: explain(&error) })?;
        if !sources.environment.is_empty() {
            let mut table: toml::Table = toml::from_str(&sources.text)
                .map_err(|error| ConfigError { place, message: explain(&error) })?;
            // One of two settings that exclude each other goes over the other in the file.
            for (name, _) in &sources.environment {
                let Some(upstream) = table.get_mut("upstream").and_then(toml::Value::as_table_mut)
                else {
                    continue;
                };
                match &name[PREFIX.len()..] {
                    "UPSTREAM__URL" => drop(upstream.remove("urls")),
                    "UPSTREAM__URLS" => drop(upstream.remove("url")),
                    _ => {}
                }
            }
            for (name, value) in &sources.environment {
                (table, raw) = with_variable(&table, name, value)?;
            }
        }
        let Overrides { listen, upstream, store, admin } = sources.overrides.clone();
        raw.server.listen = listen.map(Text).or(raw.server.listen);
        if let Some(url) = upstream {
            raw.upstream.url = Some(Text(url));
            raw.upstream.urls = None;
        }
        raw.store.url = store.or(raw.store.url);
        raw.admin.listen = admin.map(Text).or(raw.admin.listen);
        Self::resolve(raw)
    }
}

/// Sets one variable; the value is TOML if that fits, else a string.
fn with_variable(
    table: &toml::Table,
    name: &str,
    value: &str,
) -> Result<(toml::Table, Raw), ConfigError> {
    let path: Vec<String> = name[PREFIX.len()..].split("__").map(str::to_ascii_lowercase).collect();
    let as_text = toml::Value::String(value.to_owned());
    let as_toml = toml::from_str::<toml::Table>(&format!("value = {value}"))
        .ok()
        .and_then(|mut table| table.remove("value"));
    let attempt = |value: toml::Value| {
        let mut table = table.clone();
        insert(&mut table, &path, value);
        let raw = Raw::deserialize_table(&table)?;
        Ok::<_, toml::de::Error>((table, raw))
    };
    // A list is hardly meant to be a text, so what is wrong in it is what is wrong.
    let is_list = matches!(as_toml, Some(toml::Value::Array(_) | toml::Value::Table(_)));
    let wrong = match as_toml.map(&attempt) {
        Some(Ok(set)) => return Ok(set),
        Some(Err(wrong)) if is_list => Some(wrong),
        Some(Err(_)) | None => None,
    };
    attempt(as_text).map_err(|error| ConfigError {
        place: format!("environment variable {name}"),
        message: suggest(wrong.as_ref().unwrap_or(&error).message()),
    })
}

fn insert(table: &mut toml::Table, path: &[String], value: toml::Value) {
    match path {
        [] => {}
        [last] => {
            table.insert(last.clone(), value);
        }
        [first, rest @ ..] => {
            let section = table.entry(first.clone()).or_insert_with(|| toml::Table::new().into());
            if let Some(section) = section.as_table_mut() {
                insert(section, rest, value);
            } else {
                // A scalar where a section was expected: let the type check say so.
                *section = value;
            }
        }
    }
}

impl Raw {
    fn deserialize_table(table: &toml::Table) -> Result<Self, toml::de::Error> {
        table.clone().try_into()
    }
}

/// A setting that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    place: String,
    message: String,
}

impl ConfigError {
    pub(super) fn setting(setting: &str, message: &str) -> Self {
        Self { place: setting.to_owned(), message: message.to_owned() }
    }

    /// Whether it is about the same setting of a route as `common` is for all of them.
    pub(super) fn is_that(&self, route: &str, common: &Self) -> bool {
        self.place.strip_prefix(route).and_then(|place| place.strip_prefix('.'))
            == Some(&common.place)
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)
    }
}

impl std::error::Error for ConfigError {}

/// The parser's own report, which shows line and column, and what was meant.
fn explain(error: &toml::de::Error) -> String {
    let report = error.to_string();
    let message = error.message();
    let suggested = suggest(message);
    report.trim_end().replace(message, &suggested)
}

/// Adds the known name that is nearest to an unknown one.
fn suggest(message: &str) -> String {
    let mut quoted = message.split('`').skip(1).step_by(2);
    let is_unknown = message.starts_with("unknown field") || message.starts_with("unknown variant");
    let Some(given) = quoted.next().filter(|_| is_unknown) else { return message.to_owned() };
    let nearest = quoted
        .map(|known| (strsim::jaro_winkler(given, known), known))
        .max_by(|(a, _), (b, _)| a.total_cmp(b));
    match nearest {
        Some((likeness, known)) if likeness > 0.75 => {
            let kind = if message.starts_with("unknown field") { "setting" } else { "value" };
            format!("unknown {kind} `{given}`; did you mean `{known}`?")
        }
        _ => message.replace("unknown field", "unknown setting"),
    }
}

#[cfg(test)]
#[path = "load_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "variables_tests.rs"]
mod variables_tests;
