//! Suggestions, and `--write` to a rule file.

use std::path::Path;

use super::{document, own_rule, records, stderr, tawny, write_trail};

#[test]
fn write_changes_only_threshold_and_period() {
    let folder = tempfile::tempdir().unwrap();
    let trail = write_trail(folder.path(), &records());
    let file = own_rule(folder.path(), "Threshold: 2", "Threshold:   2 # two");
    let before = std::fs::read_to_string(&file).unwrap();
    let run = |more: &[&str]| tawny(&[&["backtest", &trail, "--rules", file.to_str().unwrap()], more].concat());

    assert_eq!(run(&["--budget", "1/week"]).status.code(), Some(0));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), before, "nothing is written without `--write`");
    let written = run(&["--budget", "1/week", "--write"]);
    assert_eq!(written.status.code(), Some(0), "{}", stderr(&written));
    assert!(stderr(&written).contains("Threshold 2 to 3, DedupPeriodMinutes 15 to 15"), "{}", stderr(&written));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), before.replace("Threshold:   2 # two", "Threshold:   3 # two"));
    assert_eq!(run(&["--write", "2/30m"]).status.code(), Some(0));
    let wanted = before.replace("DedupPeriodMinutes: 15", "DedupPeriodMinutes: 30");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), wanted);

    for (arguments, want) in [
        (&["--write", "2/30m/dedup"][..], "cannot change the window kind from sliding to dedup"),
        (&["--write", "2/90s"], "holds whole minutes"),
        (&["--budget", "0/day", "--thresholds", "1,2", "--write"], "no tested threshold stays within"),
        (&["--thresholds", "2", "--write"], "no suggestion"),
    ] {
        let refused = run(arguments);
        assert_eq!(refused.status.code(), Some(2), "{arguments:?}");
        assert!(stderr(&refused).contains(want), "{}", stderr(&refused));
        assert_eq!(std::fs::read_to_string(&file).unwrap(), wanted);
    }
}

#[test]
fn only_requested_thresholds_are_suggested() {
    let folder = tempfile::tempdir().unwrap();
    let trail = write_trail(folder.path(), &records());
    let file = own_rule(folder.path(), "Tags:", "Tags:");
    let run = |more: &[&str]| tawny(&[&["backtest", &trail, "--rules", file.to_str().unwrap()], more].concat());
    let (grid, budget) = (["--thresholds", "5..6", "--periods", "1h"], ["--budget", "1000/day"]);

    let told = document(&run(&[&grid[..], &budget, &["--format", "json"]].concat()));
    assert_eq!(told["suggestions"]["within_budget"]["threshold"], 5, "{}", told["suggestions"]);
    assert!(told["suggestions"]["knee"].is_null(), "a line from five to six has no knee: {}", told["suggestions"]);
    let written = run(&[&grid[..], &budget, &["--write"]].concat());
    assert!(stderr(&written).contains("Threshold 2 to 5, DedupPeriodMinutes 15 to 15"), "{}", stderr(&written));
}

#[test]
fn write_is_refused_after_an_incomplete_read() {
    let folder = tempfile::tempdir().unwrap();
    let trail = write_trail(folder.path(), &records());
    std::fs::write(Path::new(&trail).join("b.json.gz"), "no gzip").unwrap();
    let file = own_rule(folder.path(), "Tags:", "Tags:");
    let before = std::fs::read_to_string(&file).unwrap();
    for write in [&["--write", "3/15m"][..], &["--budget", "1/week", "--write"]] {
        let refused = tawny(&[&["backtest", &trail, "--rules", file.to_str().unwrap()], write].concat());
        assert_eq!(refused.status.code(), Some(3), "{}", stderr(&refused));
        assert!(
            stderr(&refused).contains("the rule was not changed: not all data could be read"),
            "{}",
            stderr(&refused)
        );
        assert_eq!(std::fs::read_to_string(&file).unwrap(), before);
    }
}

#[cfg(unix)]
#[test]
fn write_follows_symlinks_and_refuses_read_only_files() {
    use std::os::unix::fs::{PermissionsExt, symlink};

    let folder = tempfile::tempdir().unwrap();
    let trail = write_trail(folder.path(), &records());
    let file = own_rule(folder.path(), "Tags:", "Tags:");
    let path = |name: &str| folder.path().join(name);
    std::fs::create_dir(path("elsewhere")).unwrap();
    symlink("../rule.yml", path("elsewhere/link.yml")).unwrap();
    std::fs::write(path("page.html"), "old").unwrap();
    for (link, target) in [("page-link.html", "page.html"), ("new-link.json", "new.json")] {
        symlink(target, path(link)).unwrap();
    }
    let [link, page, out] = ["elsewhere/link.yml", "page-link.html", "new-link.json"].map(path);
    let [link_name, page_name, out_name] = [&link, &page, &out].map(|path| path.to_str().unwrap());

    let outputs = ["--report", page_name, "--format", "json", "-o", out_name];
    let written = tawny(&[&["backtest", &trail, "--rules", link_name, "--write", "3/30m"], &outputs[..]].concat());
    assert_eq!(written.status.code(), Some(0), "{}", stderr(&written));
    for link in [&link, &page, &out] {
        assert!(link.is_symlink(), "{}", link.display());
    }
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.contains("Threshold: 3\n") && text.contains("DedupPeriodMinutes: 30\n"), "{text}");
    assert!(std::fs::read_to_string(path("page.html")).unwrap().starts_with("<!doctype html>"));
    assert!(std::fs::read_to_string(path("new.json")).unwrap().starts_with('{'));

    for name in ["rule.yml", "page.html"] {
        std::fs::set_permissions(path(name), PermissionsExt::from_mode(0o444)).unwrap();
    }
    let page = std::fs::read_to_string(path("page.html")).unwrap();
    for (arguments, name) in [(["--write", "5/15m"], "link.yml"), (["--report", page_name], "page-link.html")] {
        // Refused before the data is looked for, which does not exist.
        let refused = tawny(&[&["backtest", "no/such/trail", "--rules", link_name], &arguments[..]].concat());
        assert_eq!(refused.status.code(), Some(2), "{}", stderr(&refused));
        let said = stderr(&refused);
        assert!(said.contains(&format!("{name}` cannot be written: it is read-only")), "{said}");
    }
    assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
    assert_eq!(std::fs::read_to_string(path("page.html")).unwrap(), page);
}
