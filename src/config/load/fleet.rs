//! `[fleet]`: this doorman among those that share its database.

use std::time::Duration;

use super::Loading;
use crate::config::settings::FleetSettings;

/// A doorman that is believed to live for less than this would be taken for dead at each pause of the database.
const TTL_MIN: Duration = Duration::from_secs(1);
/// After this long nobody would call it a failover.
const TTL_MAX: Duration = Duration::from_secs(600);
/// Most characters of a name.
const NAME_CHARS_MAX: usize = 64;

impl Loading<'_> {
    /// `shared`: whether the ledger is in a database.
    pub(super) fn fleet(&mut self, shared: bool) -> Option<FleetSettings> {
        let name = self.scalar("fleet.name", None, "");
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if name.value.len() > NAME_CHARS_MAX || !name.value.chars().all(plain) {
            let expected = format!("expected at most {NAME_CHARS_MAX} letters, digits and `-_.`");
            self.refuse("fleet.name", &name, &expected, None);
        }
        let written = self.scalar("fleet.ttl", None, "15s");
        let ttl = self.length_of("fleet.ttl", &written);
        if ttl.is_some_and(|ttl| !(TTL_MIN..=TTL_MAX).contains(&ttl)) {
            self.refuse("fleet.ttl", &written, "expected 1s to 10m", None);
        }
        let let_go_after = self.length("fleet.let_go_after", "30s");
        let give_when_away = self.length("fleet.give_when_away", "5m");
        let keys_dir = self.given("fleet.keys_dir").map(|path| self.resolve(&path));
        let weight = self.number("fleet.weight", 100);
        let agents_max = self.number("fleet.agents_max", 20_000);
        let dials_per_second = self.number("fleet.dials_per_second", 500);
        let any = self.origins.iter().any(|(key, _, origin)| key.starts_with("fleet.") && origin != "the default");
        if any && !shared {
            let message = "`[fleet]` changes nothing here: the ledger is in a file, which no other doorman shares";
            self.warn("fleet.ttl", &written, message, "leave it out, or name a database in `[ledger] url`");
        }
        Some(FleetSettings {
            name: Some(name.value).filter(|name| !name.is_empty()),
            ttl: ttl?,
            let_go_after: let_go_after?,
            give_when_away: give_when_away?,
            keys_dir,
            weight: weight?,
            agents_max: agents_max?,
            dials_per_second: dials_per_second?,
        })
    }
}
