//! What is driven: for each kind of file the functions that the program reads it with.

use std::fs;
use std::path::Path;

use epsilon::backbone::{Options, Precision, TextTower};
use epsilon::comparison::Comparison;
use epsilon::dataset::coco::{CocoOptions, CocoSplit, TrainingImages};
use epsilon::dataset::nus_wide::{NusWideLabels, NusWideOptions};
use epsilon::dataset::open_images::{OpenImagesOptions, UnknownIds};
use epsilon::dataset::table::TableOptions;
use epsilon::dataset::voc::{Difficult, VocOptions};
use epsilon::dataset::{self, Source, table};
use epsilon::image::{Filter, Fit, Limits, Preprocess, metadata};
use epsilon::labels::{self, VectorFile, VectorIndex, WordTable};
use epsilon::library::ownership::{Lists, folded};
use epsilon::library::{
    Catalog, Corrections, Filter as Criteria, Journal, Ledger, Library, Order, sidecar, told, xmp,
};
use epsilon::model::Model;
use epsilon::predictor::is_bundle;
use epsilon::published_features::{ImportOptions, Zeros, import};
use epsilon::recipe::Recipe;
use epsilon::semantic_index::{Index, IndexWriter};
use epsilon::tokens::{TokenStore, TokenType, merge};
use epsilon::{Finder, Predictor, classes::ClassNames};
use epsilon_data::formats::{pickle, sealed};
use epsilon_metrics::files::{Joined, LabelTable, ScoreTable};

/// What stands between the files of an input that is several.
pub(crate) const BETWEEN: &[u8] = b"\n=====\n";

/// A kind of file, or of files that belong together.
pub(crate) struct Target {
    /// Its name, and that of its folders of seeds and finds.
    pub name: &'static str,
    /// What the parts of an input are written as.
    pub files: &'static [&'static str],
    /// What reads them, in a folder that holds nothing else but `beside`.
    pub read: fn(&Path),
    /// Files of the repository's tests that are seeds as well: a folder, and the end of their names.
    pub fixtures: &'static [(&'static str, &'static str)],
    /// Files of the repository that lie beside those of the input, and their names there.
    pub beside: &'static [(&'static str, &'static str)],
    /// Words of the format.
    pub words: &'static [&'static str],
    /// What makes a damaged input pass for a whole one, so that the damage reaches what lies behind a checksum.
    pub mend: fn(Vec<u8>) -> Vec<u8>,
}

const NONE: Target = Target {
    name: "",
    files: &[],
    read: |_| (),
    fixtures: &[],
    beside: &[],
    words: &[],
    mend: |bytes| bytes,
};

const FORMATS: &str = "crates/epsilon-vision/tests/fixtures/formats";
const IMAGES: &str = "crates/epsilon-vision/tests/fixtures/image";
const NETWORKS: &str = "crates/epsilon-vision/tests/fixtures/backbones";
const SIGLIP: &str = "crates/epsilon-vision/tests/fixtures/siglip";
const PUBLISHED: &str = "crates/epsilon-data/tests/fixtures/published";
const SCORES: &str = "crates/epsilon-metrics/tests/reference/files";

const XMP: &[&str] = &[
    "<rdf:RDF",
    "<rdf:Description",
    "rdf:about=\"\"",
    "<dc:subject>",
    "<rdf:Bag>",
    "<rdf:li>",
    "</rdf:li>",
    "xmlns:epsilon=\"urn:epsilon-zsl:xmp:1.0/\"",
    "<epsilon:Labels>",
    "lr:hierarchicalSubject",
    "digiKam:TagsList",
    "<?xpacket",
    "<![CDATA[",
    "<!--",
    "xml:lang",
];
const JSON: &[&str] = &[
    "\"images\"",
    "\"annotations\"",
    "\"categories\"",
    "\"id\"",
    "\"image_id\"",
    "\"category_id\"",
    "\"file_name\"",
    "\"name\"",
    "1.5",
    "1e400",
];
const TENSORS: &[&str] = &[
    "__metadata__",
    "\"dtype\":\"F16\"",
    "\"dtype\":\"BF16\"",
    "\"dtype\":\"F64\"",
    "\"dtype\":\"I64\"",
    "\"shape\":[",
    "\"data_offsets\":[0,",
    "weight",
    "bias",
    "head.",
    "cls_token",
    "pos_embed",
];
const PICKLE: &[&str] = &[
    "ccollections\nOrderedDict\n",
    "cnumpy.core.multiarray\n_reconstruct\n",
    "(dp0\n",
    "\u{80}\u{2}",
    "R.",
    "b.",
    "\u{8c}\u{1}a",
    "u.",
];

/// Everything that is driven.
pub(crate) const TARGETS: &[Target] = &[
    Target {
        name: "jpeg",
        files: &["photo"],
        read: picture,
        fixtures: &[(IMAGES, ".jpg")],
        ..NONE
    },
    Target {
        name: "png",
        files: &["photo"],
        read: picture,
        fixtures: &[(IMAGES, ".png")],
        words: &[
            "IHDR", "PLTE", "tRNS", "IDAT", "eXIf", "iTXt", "zTXt", "iCCP", "acTL", "fcTL", "IEND",
        ],
        mend: png,
        ..NONE
    },
    Target {
        name: "webp",
        files: &["photo"],
        read: picture,
        fixtures: &[(IMAGES, ".webp")],
        words: &[
            "VP8 ", "VP8L", "VP8X", "ALPH", "ANIM", "ANMF", "EXIF", "XMP ",
        ],
        ..NONE
    },
    Target {
        name: "gif",
        files: &["photo"],
        read: picture,
        fixtures: &[(FORMATS, ".gif")],
        ..NONE
    },
    Target {
        name: "bmp",
        files: &["photo"],
        read: picture,
        fixtures: &[(FORMATS, ".bmp")],
        ..NONE
    },
    Target {
        name: "tiff",
        files: &["photo"],
        read: picture,
        fixtures: &[(FORMATS, ".tif")],
        ..NONE
    },
    Target {
        name: "heic",
        files: &["photo"],
        read: picture,
        fixtures: &[(FORMATS, ".heic")],
        words: BOXES,
        ..NONE
    },
    Target {
        name: "avif",
        files: &["photo"],
        read: picture,
        fixtures: &[(FORMATS, ".avif")],
        words: BOXES,
        ..NONE
    },
    Target {
        name: "jxl",
        files: &["photo"],
        read: picture,
        fixtures: &[(FORMATS, ".jxl")],
        words: &["jxlc", "jxlp", "brob", "Exif", "xml "],
        ..NONE
    },
    Target {
        name: "raw",
        files: &["photo"],
        read: picture,
        fixtures: &[
            (FORMATS, ".nef"),
            (FORMATS, ".orf"),
            (FORMATS, ".cr2"),
            (FORMATS, ".cr3"),
            (FORMATS, ".arw"),
            (FORMATS, ".dng"),
            (FORMATS, ".raf"),
            (FORMATS, ".rw2"),
        ],
        words: BOXES,
        ..NONE
    },
    Target {
        name: "sidecar",
        files: &["photo.xmp"],
        read: xmp_sidecar,
        words: XMP,
        ..NONE
    },
    Target {
        name: "table-tsv",
        files: &["labels.tsv", "seen.txt", "unseen.txt"],
        read: |at| table(at, "labels.tsv"),
        ..NONE
    },
    Target {
        name: "table-csv",
        files: &["labels.csv", "seen.txt", "unseen.txt"],
        read: |at| table(at, "labels.csv"),
        ..NONE
    },
    Target {
        name: "table-jsonl",
        files: &["labels.jsonl", "seen.txt", "unseen.txt"],
        read: |at| table(at, "labels.jsonl"),
        words: JSON,
        ..NONE
    },
    Target {
        name: "table-parquet",
        files: &["labels.parquet"],
        read: |at| table(at, "labels.parquet"),
        fixtures: &[(PUBLISHED, ".parquet")],
        beside: WORDS,
        words: &["PAR1"],
        ..NONE
    },
    Target {
        name: "coco",
        files: &["train.json", "test.json", "seen.txt", "unseen.txt"],
        read: coco,
        words: JSON,
        ..NONE
    },
    Target {
        name: "voc",
        files: &[
            "ImageSets/Main/trainval.txt",
            "ImageSets/Main/test.txt",
            "Annotations/000001.xml",
            "Annotations/000002.xml",
            "seen.txt",
            "unseen.txt",
        ],
        read: voc,
        words: &[
            "<object>",
            "<name>",
            "<difficult>",
            "<annotation>",
            "</annotation>",
        ],
        ..NONE
    },
    Target {
        name: "open-images",
        files: &[
            "train.csv",
            "test.csv",
            "classes.csv",
            "seen.txt",
            "unseen.txt",
            "all.txt",
        ],
        read: open_images,
        words: &["/m/0", "ImageID", "LabelName", "Confidence", "Source"],
        ..NONE
    },
    Target {
        name: "nus-wide",
        files: &[
            "NUS_WID_Tags/TagList1k.txt",
            "ConceptsList/Concepts81.txt",
            "ImageList/TrainImagelist.txt",
            "ImageList/TestImagelist.txt",
            "NUS_WID_Tags/Train_Tags1k.dat",
            "NUS_WID_Tags/Test_Tags1k.dat",
            "TrainTestLabels/Labels_cat_Train.txt",
            "TrainTestLabels/Labels_cat_Test.txt",
        ],
        read: nus_wide,
        ..NONE
    },
    Target {
        name: "recipe",
        files: &["recipe.toml"],
        read: recipe,
        words: &[
            "[data]",
            "[method]",
            "kind = ",
            "[[row]]",
            "grid",
            "label-folds",
            "schedule = ",
            "anchor",
        ],
        ..NONE
    },
    Target {
        name: "vectors-text",
        files: &["vectors", "names.txt"],
        read: vectors,
        ..NONE
    },
    Target {
        name: "vectors-word2vec",
        files: &["vectors", "names.txt"],
        read: vectors,
        ..NONE
    },
    Target {
        name: "vectors-npy",
        files: &["vectors", "names.txt"],
        read: vectors,
        fixtures: &[(PUBLISHED, ".npy")],
        words: &[
            "'descr'",
            "'<f4'",
            "'>f8'",
            "'<f2'",
            "'fortran_order': True",
            "'shape': (",
        ],
        ..NONE
    },
    Target {
        name: "vectors-safetensors",
        files: &["vectors", "names.txt"],
        read: vectors,
        words: TENSORS,
        ..NONE
    },
    Target {
        name: "pickle",
        files: &["vectors", "names.txt"],
        read: vectors,
        fixtures: &[(PUBLISHED, ".pkl")],
        words: PICKLE,
        ..NONE
    },
    Target {
        name: "weights-safetensors",
        files: &["model.safetensors"],
        read: |at| weights(&at.join("model.safetensors")),
        fixtures: &[(NETWORKS, "timm_gap.safetensors")],
        words: TENSORS,
        ..NONE
    },
    Target {
        name: "weights-torch",
        files: &["model.pth"],
        read: |at| weights(&at.join("model.pth")),
        fixtures: &[(NETWORKS, "hostile.pth"), (NETWORKS, "vgg19.pth")],
        words: PICKLE,
        mend: zip,
        ..NONE
    },
    Target {
        name: "weights-settings",
        files: &["config.json", "preprocessor_config.json"],
        read: weights,
        beside: &[(
            "crates/epsilon-vision/tests/fixtures/backbones/vit/model.safetensors",
            "model.safetensors",
        )],
        words: &[
            "\"hidden_size\"",
            "\"num_attention_heads\"",
            "\"patch_size\"",
            "\"image_size\"",
            "\"size\"",
            "\"crop_size\"",
            "\"resample\"",
            "\"image_mean\"",
        ],
        ..NONE
    },
    Target {
        name: "tokenizer-clip",
        files: &["tokenizer.json"],
        read: tower,
        fixtures: &[(NETWORKS, "clip_tokenizer.json")],
        beside: &[
            (
                "crates/epsilon-vision/tests/fixtures/backbones/clip/model.safetensors",
                "model.safetensors",
            ),
            (
                "crates/epsilon-vision/tests/fixtures/backbones/clip/config.json",
                "config.json",
            ),
            (
                "crates/epsilon-vision/tests/fixtures/backbones/clip/preprocessor_config.json",
                "preprocessor_config.json",
            ),
        ],
        words: &["\"vocab\"", "\"merges\"", "\"added_tokens\""],
        ..NONE
    },
    Target {
        name: "tokenizer-siglip",
        files: &["spiece.model"],
        read: tower,
        fixtures: &[(SIGLIP, "siglip/spiece.model")],
        beside: &[
            (
                "crates/epsilon-vision/tests/fixtures/siglip/siglip/model.safetensors",
                "model.safetensors",
            ),
            (
                "crates/epsilon-vision/tests/fixtures/siglip/siglip/config.json",
                "config.json",
            ),
            (
                "crates/epsilon-vision/tests/fixtures/siglip/siglip/preprocessor_config.json",
                "preprocessor_config.json",
            ),
        ],
        ..NONE
    },
    Target {
        name: "tokenizer-siglip2",
        files: &["tokenizer.json"],
        read: tower,
        fixtures: &[(SIGLIP, "siglip2/tokenizer.json")],
        beside: &[
            (
                "crates/epsilon-vision/tests/fixtures/siglip/siglip2/model.safetensors",
                "model.safetensors",
            ),
            (
                "crates/epsilon-vision/tests/fixtures/siglip/siglip2/config.json",
                "config.json",
            ),
            (
                "crates/epsilon-vision/tests/fixtures/siglip/siglip2/preprocessor_config.json",
                "preprocessor_config.json",
            ),
        ],
        ..NONE
    },
    Target {
        name: "features",
        files: &["train.h5"],
        read: features,
        fixtures: &[(PUBLISHED, "test.h5"), (PUBLISHED, "train.h5")],
        ..NONE
    },
    Target {
        name: "store",
        files: &["manifest.json", "tokens-00000.safetensors"],
        read: store,
        words: TENSORS,
        ..NONE
    },
    Target {
        name: "index",
        files: &["index.json", "rows-0.bin", "ids-0.jsonl"],
        read: index,
        ..NONE
    },
    Target {
        name: "library",
        files: &[
            "library.json",
            "tags.jsonl",
            "corrections.jsonl",
            "sidecars.jsonl",
        ],
        read: library,
        words: &[
            "\"photo\"",
            "\"labels\"",
            "\"verdict\"",
            "\"approved\"",
            "\"rejected\"",
            "\"parents\"",
            "\"at\"",
        ],
        ..NONE
    },
    Target {
        name: "model",
        files: &["model.safetensors"],
        read: model,
        words: &[
            "\"kind\":\"ridge\"",
            "\"kind\":\"epsilon\"",
            "\"groups\":",
            "\"label_width\":",
            "\"classes\"",
            "\"calibration\"",
        ],
        mend: seal,
        ..NONE
    },
    Target {
        name: "scores-csv",
        files: &["scores.csv", "labels.csv"],
        read: |at| scores(at, "csv"),
        ..NONE
    },
    Target {
        name: "scores-npy",
        files: &["scores.npy", "labels.npy"],
        read: |at| scores(at, "npy"),
        fixtures: &[(SCORES, ".npy")],
        ..NONE
    },
    Target {
        name: "scores-safetensors",
        files: &["scores.safetensors", "labels.safetensors"],
        read: |at| scores(at, "safetensors"),
        fixtures: &[(SCORES, ".safetensors")],
        words: TENSORS,
        ..NONE
    },
    Target {
        name: "http",
        files: &["request"],
        read: |at| crate::http::ask(at, &crate::http::PREDICTOR),
        words: HTTP,
        mend: crate::http::counted,
        ..NONE
    },
    Target {
        name: "http-library",
        files: &["request"],
        read: |at| crate::http::ask(at, &crate::http::LIBRARY),
        words: HTTP,
        mend: crate::http::counted,
        ..NONE
    },
];

const HTTP: &[&str] = &[
    "/v1/predict",
    "/v1/explain",
    "/v1/labels",
    "/v1/library/photos",
    "/v1/library/thumb",
    "/v1/library/corrections",
    "photo=",
    "labels=",
    "top=",
    "sort=",
    "since=",
    "&",
    "Content-Type: ",
    "multipart/form-data; boundary=line",
    "Transfer-Encoding: chunked",
    "Host: 127.0.0.1",
    "Origin: ",
    "Content-Disposition: form-data; name=\"photo\"",
    "\r\n\r\n",
    "--line",
];

const BOXES: &[&str] = &[
    "ftyp", "meta", "iinf", "infe", "iloc", "iprp", "ipco", "ipma", "ispe", "hvcC", "av1C", "iref",
    "grid", "irot", "imir", "idat", "mdat", "Exif", "moov", "uuid", "CMT1", "THMB",
];

const WORDS: &[(&str, &str)] = &[
    ("fuzz/seeds/seen.txt", "seen.txt"),
    ("fuzz/seeds/unseen.txt", "unseen.txt"),
];

/// Small pictures only, so that an input takes no longer than it must.
const SMALL: Limits = Limits {
    max_pixels: 1_000_000,
    max_side: 10_000,
    max_file_bytes: 1 << 24,
};

fn picture(at: &Path) {
    let path = at.join("photo");
    let whole = epsilon::image::open(&path, &SMALL);
    let preprocess = Preprocess {
        size: 16,
        fit: Fit::ShorterSide { resize: 18 },
        filter: Filter::Bilinear,
        mean: [0.5; 3],
        std: [0.5; 3],
    };
    let pixels = epsilon::image::open_for(&path, &preprocess, &SMALL);
    if let Ok(pixels) = pixels {
        assert!(pixels.values.iter().all(|value| value.is_finite()));
    }
    if let Ok(whole) = whole {
        let small = epsilon::image::open_small(&path, 32, &SMALL);
        assert!(small.is_ok_and(|small| small.width() <= 32.max(whole.width())));
    }
    let _ = metadata::read(&path, &SMALL);
}

fn xmp_sidecar(at: &Path) {
    let Ok(found) = sidecar::look(&at.join("photo.xmp")) else {
        return;
    };
    let text = found.text.unwrap_or_default();
    let Ok(there) = xmp::read(&text) else {
        let _ = told::read(&text);
        return;
    };
    let new = Lists {
        subject: vec!["a & <b>".into()],
        ..Lists::default()
    };
    if let Ok(edited) = xmp::edit(&text, &Lists::default(), &new) {
        let now = xmp::read(&edited).expect("what was edited is read");
        assert!(
            now.subject.len() == there.subject.len() + 1,
            "one keyword more"
        );
        let back =
            xmp::edit(&edited, &new, &Lists::default()).expect("what was added is taken out");
        let names = |lists: &Lists| {
            lists
                .subject
                .iter()
                .map(|name| folded(name))
                .collect::<Vec<_>>()
        };
        assert_eq!(names(&xmp::read(&back).expect("again")), names(&there));
    }
    if let Ok(labels) = told::read(&text) {
        let _ = told::write(&text, &labels);
        let _ = told::write(&text, &[]);
    }
}

/// Everything of a data set that a command looks at.
fn data(source: Source) {
    let _ = source.sources();
    if let Ok((data, summary)) = source.read() {
        let _ = (summary.to_string(), data.seen_names(), data.unseen_names());
        for row in 0..data.labels.rows() {
            let _ = data.labels.positives(row).count();
        }
        let _ = data.rows(dataset::Split::Train);
    }
}

fn table(at: &Path, name: &str) {
    let options = TableOptions {
        table: at.join(name),
        ..TableOptions::in_folder(at)
    };
    let _ = table::read(&options);
    data(Source::Table(options));
}

fn coco(at: &Path) {
    let lists = CocoSplit::Lists {
        seen: at.join("seen.txt"),
        unseen: at.join("unseen.txt"),
    };
    for (split, training_images) in [
        (lists, TrainingImages::WithoutUnseen),
        (CocoSplit::Rahman, TrainingImages::All),
    ] {
        data(Source::Coco(CocoOptions {
            train: at.join("train.json"),
            test: at.join("test.json"),
            train_images: at.into(),
            test_images: at.into(),
            split,
            training_images,
            outside: false,
        }));
    }
}

fn voc(at: &Path) {
    data(Source::Voc(VocOptions {
        folder: at.into(),
        train_set: "trainval".into(),
        test_set: "test".into(),
        seen: at.join("seen.txt"),
        unseen: at.join("unseen.txt"),
        difficult: Difficult::Unknown,
        outside: false,
    }));
}

fn open_images(at: &Path) {
    for unseen_classes in [None, Some(at.join("all.txt"))] {
        data(Source::OpenImages(OpenImagesOptions {
            train: vec![at.join("train.csv")],
            test: vec![at.join("test.csv")],
            images: at.into(),
            descriptions: at.join("classes.csv"),
            seen: at.join("seen.txt"),
            unseen: at.join("unseen.txt"),
            unseen_classes,
            max_positives: 40,
            unknown_ids: UnknownIds::default(),
            outside: false,
        }));
    }
}

fn nus_wide(at: &Path) {
    for labels in [NusWideLabels::TagsAndConcepts, NusWideLabels::Concepts] {
        data(Source::NusWide(NusWideOptions {
            folder: at.into(),
            images: at.into(),
            labels,
            outside: false,
        }));
    }
}

fn recipe(at: &Path) {
    let path = at.join("recipe.toml");
    if let Ok(recipe) = Recipe::read(&path) {
        let text = recipe.to_toml().expect("a recipe that was read is written");
        assert!(Recipe::parse(&path, &text).is_ok(), "and read again");
    }
    let _ = Comparison::read(&path);
}

fn vectors(at: &Path) {
    let path = at.join("vectors");
    let words: Vec<String> = ["red", "cat", "a b", "\u{e4}"].map(String::from).into();
    let _ = labels::read_names(&at.join("names.txt"));
    let _ = labels::read_list(&at.join("names.txt"));
    for names in [
        vec![],
        vec![at.join("names.txt")],
        vec![at.join("names.txt"), at.join("names.txt")],
    ] {
        let file = VectorFile {
            path: path.clone(),
            names,
        };
        if let Ok(index) = VectorIndex::read(&file) {
            let _ = index.resolve(&words[..1]);
            let _ = index.approximate(&words);
        }
        if let Ok(table) = WordTable::first(&file, 100) {
            assert!(table.words().iter().all(|word| {
                table
                    .get(word)
                    .is_some_and(|vector| vector.len() == table.dim())
            }));
        }
        let _ = labels::resolve_words(&file, &words, &words);
    }
    if pickle::is_pickle(&path).is_ok_and(|is| is) {
        let _ = pickle::read_strings(&path);
    }
}

fn weights(path: &Path) {
    let options = Options::default();
    let _ = epsilon::backbone::check(path, &options);
    let _ = epsilon::backbone::pairing(path, None);
    if let Ok(network) = epsilon::backbone::read(path, &options) {
        let info = network.info();
        let _ = network.classifier();
        let side = info.preprocess.size as usize;
        if let Ok(backbone) = network.on_cpu(Precision::default())
            && side <= 64
        {
            let mut out = epsilon::backbone::Features::default();
            let _ = backbone.forward(&vec![0.5; 3 * side * side], 1, &mut out);
        }
    }
}

fn tower(at: &Path) {
    if let Ok(tower) = TextTower::load(at, None) {
        for text in ["a photo of a cat", "", "\u{e4} \u{1F600}"] {
            let _ = tower.tokens(text);
        }
        let _ = tower.embed(&["red flower".into()]);
    }
}

fn features(at: &Path) {
    let file = vec![at.join("train.h5")];
    let options = ImportOptions {
        train: file.clone(),
        test: vec![],
        seen: vec!["a".into(), "b".into(), "c".into()],
        unseen: vec!["d".into(), "e".into()],
        zeros: Zeros::Unknown,
        dtype: TokenType::F32,
    };
    let _ = import(&options, &at.join("out"), &mut |_| {
        std::ops::ControlFlow::Continue(())
    });
}

fn store(at: &Path) {
    if let Ok(store) = TokenStore::open(at) {
        let _ = store.verify();
        let mut tokens = vec![0.0; store.tokens_per_image() * store.dim()];
        let mut global = vec![0.0; store.global_dim()];
        for row in 0..store.len() {
            store.read_tokens(row, &mut tokens);
            store.read_global(row, &mut global);
        }
        assert!(store.ids().iter().all(|id| store.row_of(id).is_some()));
    }
    let _ = merge(&[at.into()], &at.join("merged"));
}

fn index(at: &Path) {
    let Ok(index) = Index::open(at) else {
        return;
    };
    let info = index.info().clone();
    if info.groups * info.width < 1 << 16 {
        let _ = index.search(&vec![0.5; info.width], 3);
    }
    if let Ok(selection) = index.select(|_| true)
        && let Ok((ids, _)) = index.vectors(&selection)
        && let Some(id) = ids.first()
    {
        let _ = index.like(id, 2);
    }
    let _ = index.len();
    // Last, as it may write.
    let _ = IndexWriter::open(at, &info);
}

fn library(at: &Path) {
    let _ = Library::read(at);
    let _ = Corrections::read(at);
    let _ = Ledger::snapshot(at);
    if let Ok(catalog) = Catalog::read(at) {
        let _ = catalog.select(&Criteria::default(), Order::Date);
    }
    if let Ok(finder) = Finder::open(at) {
        let _ = finder.catalog().items().len();
    }
    // Last, as it may write.
    if let Ok(journal) = Journal::open(at) {
        let photos: Vec<String> = journal.known().keys().cloned().collect();
        for photo in photos {
            let _ = journal.entry(&photo);
        }
    }
    let _ = Corrections::open(at);
}

fn model(at: &Path) {
    let path = at.join("model.safetensors");
    let device = epsilon::device::device("cpu").expect("there is a CPU");
    let _ = is_bundle(&path);
    if let Ok(model) = Model::load(&path, &device) {
        let _ = model.identity();
        let dims = model.card().dims();
        if dims.width.max(dims.global_width()) < 1 << 12
            && dims.tokens < 1 << 10
            && let Ok(scorer) = model.scorer(&model.own_labels(), &device)
        {
            let (tokens, global) = (dims.tokens * dims.width, dims.global_width());
            let _ = scorer.score(1, vec![0.5; tokens], vec![0.5; global]);
        }
    }
    if let Ok(predictor) = Predictor::load(&path) {
        let _ = predictor.own_labels();
        let _ = predictor.labels(["red", "purple"]);
    }
    let _ = ClassNames::read(Some(&path), 3);
}

fn scores(at: &Path, ending: &str) {
    let path = |name: &str| at.join(format!("{name}.{ending}"));
    let labels = LabelTable::read(&path("labels"));
    if let (Ok(scores), Ok(labels)) = (ScoreTable::read(&path("scores")), labels) {
        let _ = Joined::new(scores, &labels, None);
    }
    if let (Ok(scores), Ok(labels)) = (
        ScoreTable::read(&path("scores")),
        LabelTable::read(&path("scores")),
    ) {
        let _ = Joined::new(scores, &labels, None);
    }
}

/// Gives the chunks of a PNG their checksums.
fn png(mut bytes: Vec<u8>) -> Vec<u8> {
    let mut place = 8;
    while let Some(head) = bytes.get(place..place + 4) {
        let length = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let Some(end) = (place + 8)
            .checked_add(length)
            .filter(|end| end + 4 <= bytes.len())
        else {
            break;
        };
        let sum = crc32(&bytes[place + 4..end]);
        bytes[end..end + 4].copy_from_slice(&sum.to_be_bytes());
        place = end + 4;
    }
    bytes
}

/// Gives the files of a zip archive whose content is stored as it is their checksums.
fn zip(mut bytes: Vec<u8>) -> Vec<u8> {
    let field = |bytes: &[u8], place: usize, width: usize| -> Option<usize> {
        let field = bytes.get(place..place + width)?;
        Some(
            field
                .iter()
                .rev()
                .fold(0, |number, &byte| number << 8 | usize::from(byte)),
        )
    };
    let entries: Vec<usize> = bytes
        .windows(4)
        .enumerate()
        .filter(|(_, four)| four == b"PK\x01\x02")
        .map(|(place, _)| place)
        .collect();
    for entry in entries {
        let sum = (|| {
            let (size, local) = (field(&bytes, entry + 20, 4)?, field(&bytes, entry + 42, 4)?);
            let start = local + 30 + field(&bytes, local + 26, 2)? + field(&bytes, local + 28, 2)?;
            Some(crc32(bytes.get(start..start.checked_add(size)?)?))
        })();
        if let Some(sum) = sum {
            bytes[entry + 16..entry + 20].copy_from_slice(&sum.to_le_bytes());
        }
    }
    bytes
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |sum, &byte| {
        (0..8).fold(sum ^ u32::from(byte), |sum, _| {
            (sum >> 1) ^ (0xEDB8_8320 & (sum & 1).wrapping_neg())
        })
    })
}

/// Puts the content of a safetensors file under a new seal, where it has one.
fn seal(bytes: Vec<u8>) -> Vec<u8> {
    let Ok((_, header)) = safetensors::SafeTensors::read_metadata(&bytes) else {
        return bytes;
    };
    let Ok(all) = safetensors::SafeTensors::deserialize(&bytes) else {
        return bytes;
    };
    let metadata: std::collections::BTreeMap<String, String> = header
        .metadata()
        .clone()
        .unwrap_or_default()
        .into_iter()
        .collect();
    if !metadata.contains_key(sealed::SEAL) {
        return bytes;
    }
    let tensors: Vec<sealed::Tensor<'_>> = all
        .tensors()
        .into_iter()
        .map(|(name, tensor)| sealed::Tensor {
            name,
            dtype: tensor.dtype(),
            shape: tensor.shape().to_vec(),
            bytes: tensor.data().to_vec().into(),
        })
        .collect();
    let written = tempfile::tempdir().and_then(|folder| {
        let path = folder.path().join("sealed");
        sealed::write(&path, &tensors, metadata)?;
        fs::read(&path)
    });
    written.unwrap_or(bytes)
}
