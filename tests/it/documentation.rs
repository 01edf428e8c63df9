//! The examples of the guides, run as a reader would run them.

use std::path::Path;

use companion_tests::app::App;
use tokio::process::Command;

#[tokio::test]
async fn every_example_of_the_guides_works_word_for_word() {
    let app = App::start_with(&[("RATE_LIMIT_REQUESTS_PER_MINUTE", "1000")]).await;
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let guides = ["API.md", "AUTHENTICATION.md"].map(|name| root.join("ops/docs").join(name));
    let checked = Command::new(root.join("ops/check-docs"))
        .args(guides)
        .env("COMPANION_URL", app.url(""))
        .output()
        .await
        .unwrap();
    let told = String::from_utf8_lossy(&checked.stdout);
    let failed = String::from_utf8_lossy(&checked.stderr);
    assert!(checked.status.success(), "{told}\n{failed}");
    assert!(told.contains(" passed, 0 failed"), "{told}");
}
