//! `[ledger] url`: a PostgreSQL database that holds the record in place of a file.

use std::str::FromStr as _;

use tokio_postgres::Config;
use tokio_postgres::config::Host;

use super::Loading;
use crate::config::settings::{DatabaseSettings, KeySource};

/// What may stand behind the `?`. TLS is no matter of the address: doorman always checks the server's certificate and name.
const PARAMETERS: [&str; 4] = ["dbname", "host", "port", "user"];

impl Loading<'_> {
    /// The database, if there is one; `None` if the setting is not valid, which is reported.
    pub(super) fn database(&mut self) -> Option<Option<DatabaseSettings>> {
        let url = self.scalar("ledger.url", None, "");
        let ca_file = self.given("ledger.ca_file").map(|path| self.resolve(&path));
        let file = self.scalar("ledger.password_file", None, "");
        let credential = self.given("ledger.password_credential");
        let password = match (file.value.as_str(), credential) {
            ("", None) => KeySource::Missing,
            ("", Some(name)) => KeySource::Credential(name),
            (path, None) => KeySource::File(self.resolve(path)),
            (_, Some(_)) => {
                let expected = "expected one of `password_file` and `password_credential`";
                self.refuse("ledger.password_file", &file, expected, None);
                return None;
            }
        };
        let connections = self.number("ledger.connections", 6)?;
        if url.value.is_empty() {
            return Some(None);
        }
        let config = self.parsed("ledger.url", &url, database_url)?;
        let connections = usize::try_from(connections).unwrap_or(usize::MAX);
        Some(Some(DatabaseSettings { url: url.value, config, password, ca_file, connections }))
    }
}

/// Reads the address of a database.
pub(crate) fn database_url(text: &str) -> Result<Config, String> {
    const FORM: &str = "expected an address such as `postgresql://doorman@db.example/doorman` or `postgresql:///doorman?host=/run/postgresql`";
    let rest = text.strip_prefix("postgresql://").or_else(|| text.strip_prefix("postgres://")).ok_or(FORM)?;
    let (place, parameters) = rest.split_once('?').unwrap_or((rest, ""));
    let who = place.split('/').next().and_then(|place| place.rsplit_once('@')).map_or("", |(who, _)| who);
    if who.contains(':') {
        return Err(
            "a password has no place in the address: put it in a file, and name that with `password_file`".to_owned()
        );
    }
    for parameter in parameters.split('&').filter(|parameter| !parameter.is_empty()) {
        let name = parameter.split('=').next().unwrap_or(parameter);
        match name {
            "password" => {
                return Err(
                    "a password has no place in the address: put it in a file, and name that with `password_file`"
                        .to_owned(),
                );
            }
            name if name.starts_with("ssl") => {
                return Err("say nothing of TLS in the address: doorman always checks the server's certificate and its name, and `ca_file` names another authority".to_owned());
            }
            name if PARAMETERS.contains(&name) => {}
            _ => {
                return Err(format!(
                    "expected nothing behind the `?` but {}",
                    PARAMETERS.map(|name| format!("`{name}`")).join(", ")
                ));
            }
        }
    }
    let config = Config::from_str(text).map_err(|_| FORM.to_owned())?;
    let local = config.get_hosts().iter().filter(|host| matches!(host, Host::Unix(_))).count();
    if local > 0 && local < config.get_hosts().len() {
        return Err("expected Unix sockets or other machines, not both".to_owned());
    }
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::database_url;

    #[test]
    fn an_address_holds_no_secret_and_no_word_about_tls() {
        for good in [
            "postgresql://doorman@db.example/doorman",
            "postgresql://doorman@db1:5432,db2:5433/doorman",
            "postgres:///doorman?host=/run/postgresql&user=doorman",
            "postgresql://doorman@%2Frun%2Fpostgresql/doorman",
        ] {
            assert!(database_url(good).is_ok(), "{good}");
        }
        for (bad, why) in [
            ("postgresql://doorman:secret@db/doorman", "password_file"),
            ("postgresql://doorman@db/doorman?password=secret", "password_file"),
            ("postgresql://doorman@db/doorman?sslmode=disable", "TLS"),
            ("postgresql://doorman@db/doorman?options=-c%20x=y", "dbname"),
            // It would lead to another machine past the host, which says whether there is TLS.
            ("postgresql:///doorman?hostaddr=192.0.2.1", "dbname"),
            ("postgresql:///doorman?host=/run/postgresql&hos%74addr=192.0.2.1", "dbname"),
            ("mysql://db/doorman", "expected an address"),
            ("ledger.db", "expected an address"),
            ("postgresql://db,%2Frun/doorman", "not both"),
        ] {
            let said = database_url(bad).unwrap_err();
            assert!(said.contains(why) && !said.contains("secret"), "{bad}: {said}");
        }
    }
}
