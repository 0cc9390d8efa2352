//! Secrets that are in the file by mistake must not be shown.

use super::*;

#[test]
fn a_key_in_the_file_is_never_shown_and_the_error_says_where_it_belongs() {
    let text = format!(
        "password = 'band_SECRET'\n{AGENT}api_key = 'band_SECRET'\napi_key_fil = \"agent.key\"\nApi-Token = \"\"\"\nband_SECRET\"\"\"\n\
         [platform]\nsecret = ['band_SECRET', 1]\nurl = {{ token = 'band_SECRET' }}\n[log]\nlevel.password = 'band_SECRET'\n"
    );
    let said = refused(&text, &[]);
    assert!(!said.contains("SECRET"), "{said}");
    insta::assert_snapshot!(said);
    // In a value that is invalid as a whole.
    let said = refused("[plattform]\nx = 1\n[platform]\ncredentials = [{ token = 'band_SECRET' }]\n", &[]);
    assert!(said.contains("{ token = *** }") && !said.contains("SECRET"), "{said}");
    // On the same line as some other problem.
    let id = "'5f0c1a52-0000-4c0e-8f5e-6d1b3a0c9e21'";
    let said = refused(&format!("agents = [{{ api_key = 'band_SECRET', id = {id}, rules = 5 }}]\n"), &[]);
    assert!(said.contains("rules = 5") && !said.contains("SECRET"), "{said}");
}

#[test]
fn a_key_is_not_shown_either_if_the_file_is_no_toml() {
    for broken in [
        "api_key = 'band_SECRET",
        "api_key = band_SECRET",
        "api_key: band_SECRET",
        "api_key band_SECRET",
        "\"api_key\" = \"band_SECRET",
        "a.token = 1\na.token = 'band_SECRET'",
        "agents = [{ id = \"x\", api_key = 'band_SECRET'",
        "api_key = \"\"\"\nband_SECRET",
        "api_key = [\n  band_SECRET,\n]",
        "api_key = 'band_SECRET' = 1",
        "SECRET_TOKEN=band_SECRET",
    ] {
        let said = refused(&format!("{AGENT}{broken}\n"), &[]);
        assert!(said.contains("doorman.toml") && !said.contains("band_SECRET"), "{said}");
    }
    let said = refused("rules = 'a\napi_key_file = 'agent.key'\n", &[]);
    assert!(said.contains("rules = 'a"), "all else is shown: {said}");
    let said = refused("api_key_file = 'agent.key\n", &[]);
    assert!(said.contains("agent.key"), "all else is shown: {said}");
}

#[test]
fn a_password_in_an_address_is_not_shown() {
    let addresses = ["https://me:SECRET@host", "ftp://SECRET@", "http://me:SECRET@[", "https://host/?api_key=SECRET"];
    for address in addresses {
        let said = refused(&format!("{AGENT}[platform]\nurl = \"{address}\"\nrest_url = \"{address}\"\n"), &[]);
        assert!(said.contains("://***` is not a valid `url`") && !said.contains("SECRET"), "{said}");
        for variable in ["DOORMAN_PLATFORM_URL", "BAND_WS_URL"] {
            let said = refused(AGENT, &[(variable, address)]);
            assert!(said.contains("://***`") && !said.contains("SECRET"), "{said}");
        }
    }
}
