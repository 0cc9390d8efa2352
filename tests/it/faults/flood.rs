//! A flood on a good connection: the stream alone brings every request, without a listing that would cover for it.

use super::checks::{all_decided, nothing_lost_nothing_twice};
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
