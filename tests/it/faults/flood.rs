//! A flood on a good connection: the stream alone delivers every request; no listing compensates for a loss.

use super::checks::{all_decided, contacts_are_ours, nothing_lost_nothing_twice};
use super::site::Site;

#[tokio::test(flavor = "multi_thread")]
async fn every_frame_of_a_flood_is_handled() -> Result<(), String> {
    let site = Site::start().await;
    let calm =
        "heartbeat = \"25s\"\ndead_after = \"55s\"\njoin_timeout = \"15s\"\nlist_live = \"1h\"\nlist_away = \"1h\"";
    site.configure(site.address, "", calm);
    let daemon = site.daemon();
    daemon.stands("live").await?;
    site.ask("flood", 2_000, true);
    site.until("everybody is answered", all_decided).await?;
    nothing_lost_nothing_twice(&site, false)?;
    let listed = daemon.count("listed");
    daemon.stop().await?;
    if listed == 1 { Ok(()) } else { Err(format!("listed {listed} times: the stream is not proven")) }
}

/// For most contacts the event arrives before the reply to the answer that made them.
#[tokio::test(flavor = "multi_thread")]
async fn everybody_whom_a_flood_let_in_can_be_put_out_again() -> Result<(), String> {
    let site = Site::start().await;
    let daemon = site.daemon();
    daemon.stands("live").await?;
    site.ask("flood", 300, true);
    site.until("everybody is answered", all_decided).await?;
    site.until("contacts found their answers", |_| contacts_are_ours(&site)).await?;
    let (code, out, err) = site.cli(&["revoke", "--since", "1h", "--yes"]).await;
    if code != 0 {
        return Err(format!("revoke: {code}, {out}{err}"));
    }
    let left = site.control.state().contacts.len();
    daemon.stop().await?;
    if left == 0 { Ok(()) } else { Err(format!("{left} contacts are left")) }
}
