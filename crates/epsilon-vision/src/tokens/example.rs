# use epsilon_vision::backbone::{BackboneInfo, Features, Precision};
# use epsilon_vision::image::{Filter, Fit, Preprocess};
use epsilon_vision::tokens::{StoreSettings, StoreWriter, TokenStore};

# let preprocess = Preprocess {
#     size: 224,
#     fit: Fit::Squash,
#     filter: Filter::Bicubic,
#     mean: [0.5; 3],
#     std: [0.5; 3],
# };
# let backbone = BackboneInfo {
#     name: "example".into(),
#     weights_sha256: "0".into(),
#     weights_key: None,
#     preprocess,
#     tokens: 2,
#     dim: 3,
#     grid: (1, 2),
#     global: None,
#     classes: None,
#     projected: false,
#     precision: Precision::F32,
# };
# let folder = tempfile::tempdir()?;
# let dir = folder.path();
// Two tokens of width 3 for each of the images; `backbone` says so.
let ids = ["beach.jpg", "broken.jpg"];
let mut writer = StoreWriter::open(dir, &ids, &backbone, &StoreSettings::default())?;
let features = Features {
    tokens: vec![0.0, 1.0, 2.0, 3.0, 4.0, 5.0],
    global: vec![1.5, 2.5, 3.5],
};
writer.push(&["beach.jpg"], &features)?;
writer.push_failed("broken.jpg", "not a JPEG");
let report = writer.finish()?;
assert_eq!((report.images, report.failed.len()), (1, 1));

let store = TokenStore::open(dir)?;
assert_eq!((store.len(), store.tokens_per_image(), store.dim()), (1, 2, 3));
let mut tokens = [0.0; 6];
store.read_tokens(store.row_of("beach.jpg").unwrap(), &mut tokens);
assert_eq!(tokens, [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
# Ok::<(), Box<dyn std::error::Error>>(())
