//! Runs the corpora of the fuzz targets, and every input that ever found a fault, through the same functions on the
//! stable toolchain. `tests/fuzz/run` extends the corpora: see `docs/fuzzing.md`.

#[path = "../fuzz/targets.rs"]
mod targets;

use std::path::Path;

/// A target with fewer inputs has no useful corpus.
const SEEDS_MIN: usize = 5;

#[test]
fn every_input_that_fuzzing_kept_is_survived() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz");
    for (name, target) in targets::TARGETS {
        let mut played = 0;
        for kind in ["corpus", "found"] {
            let Ok(folder) = std::fs::read_dir(root.join(kind).join(name)) else { continue };
            for file in folder {
                let path = file.unwrap().path();
                let bytes = std::fs::read(&path).unwrap();
                let survived = std::panic::catch_unwind(|| target(&bytes));
                assert!(survived.is_ok(), "{}", path.display());
                played += 1;
            }
        }
        assert!(played >= SEEDS_MIN, "{name}: {played} inputs");
    }
}
