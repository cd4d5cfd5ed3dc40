//! Several processes under `mpirun`, or without MPI the refusal of them.

use super::world::World;

/// The environment in which Open MPI starts two processes, without them: nothing is done twice by a program that has no MPI, nor by
/// any program's command that does not share its work out.
#[test]
fn one_process_of_several_does_not_do_the_same_as_the_others() {
    let world = World::new();
    for (variable, command, parts) in [
        (
            "OMPI_COMM_WORLD_SIZE",
            "train recipe.toml",
            &["has started 2 processes"][..],
        ),
        ("PMI_SIZE", "extract recipe.toml", &["--features mpi"]),
        (
            "SLURM_STEP_NUM_TASKS",
            "eval model.safetensors",
            &["would do the same work"],
        ),
        (
            "OMPI_COMM_WORLD_SIZE",
            "quickstart",
            &["runs in one process", "started 2"],
        ),
    ] {
        // With MPI these would join a job that there is not.
        if cfg!(feature = "mpi") && command != "quickstart" {
            continue;
        }
        let mut started = world.command(command);
        started.env(variable, "2");
        world.end(started, command).refused(parts);
    }
    // Parts are told apart by hand.
    let mut part = world.command("extract recipe.toml --out run --shard 1/2");
    part.env("SLURM_STEP_NUM_TASKS", "2");
    world.end(part, "extract --shard").done();
}

#[cfg(feature = "mpi")]
mod started {
    use std::path::Path;
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};

    use serde_json::Value;

    use crate::comparison::one_row;
    use crate::server::Server;
    use crate::world::{Ended, World};

    /// The program as so many ranks of one thread each.
    fn command(world: &World, ranks: usize, arguments: &str) -> Command {
        let mut command = Command::new("mpirun");
        command
            .args([
                "--allow-run-as-root",
                "--oversubscribe",
                "--bind-to",
                "none",
                "-n",
            ])
            .arg(ranks.to_string())
            .arg(env!("CARGO_BIN_EXE_epsilon"))
            .args(arguments.split_whitespace())
            .args(["--threads", "1"])
            .current_dir(world.path(""))
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    fn run(world: &World, ranks: usize, arguments: &str) -> Ended {
        world.end(command(world, ranks, arguments), arguments)
    }

    fn losses(world: &World, run: &str) -> Vec<f64> {
        let text = world.text(&format!("{run}/seed-1/metrics.jsonl"));
        let loss = |line: &str| serde_json::from_str::<Value>(line).unwrap()["loss"].as_f64();
        text.lines().map(|line| loss(line).unwrap()).collect()
    }

    fn assert_close(ours: &[f64], theirs: &[f64]) {
        assert_eq!(ours.len(), theirs.len());
        for (a, b) in ours.iter().zip(theirs) {
            assert!((a - b).abs() < 1e-5 * b, "{ours:?} {theirs:?}");
        }
    }

    #[test]
    fn ranks_do_together_what_one_process_does() {
        let world = World::of(290, 20);
        world.edit("recipe.toml", "epochs = 1", "epochs = 3");
        let whole = world.run("train recipe.toml --out one").done();
        for ranks in [2, 3] {
            let out = format!("by-{ranks}");
            let said = run(&world, ranks, &format!("train recipe.toml --out {out}")).done();
            // One of them prints.
            assert_eq!(said, whole.replace("one/", &format!("{out}/")));
            assert_close(&losses(&world, &out), &losses(&world, "one"));
            assert!(!world.path(format!("{out}/tokens-parts")).exists());
            let figures = |run: &str| world.text(&format!("{run}/seed-1/figures.json"));
            assert_eq!(figures(&out), figures("one"));
            let model = format!("eval {out}/seed-1/model.safetensors --json");
            assert_eq!(run(&world, ranks, &model).json(), world.run(&model).json());
        }
    }

    #[test]
    fn whole_trainings_are_dealt() {
        let world = World::of(40, 20);
        world.edit("recipe.toml", "[training]", "[training]\nvalidation = 0.2");
        let sweep =
            "sweep recipe.toml --set groups=1,2,3 --set learning-rate=1e-3,1e-2 --json --out";
        let table = |json: Value| {
            let rows = json.as_array().unwrap().iter();
            let figures = |row: &Value| (row["name"].clone(), row["trained"][0]["figures"].clone());
            rows.map(figures).collect::<Vec<_>>()
        };
        let one = table(world.run(&format!("{sweep} one")).json());
        assert_eq!(one.len(), 6);
        let three = table(run(&world, 3, &format!("{sweep} three")).json());
        assert_eq!(three, one);
    }

    /// A row without a grid has nothing to choose: each seed is trained by one rank alone.
    #[test]
    fn the_seeds_of_one_setting_are_dealt() {
        let world = World::of(40, 20);
        world.write("table.toml", one_row("1e-3", "[1, 2, 3, 4]", 20));
        let figures = |json: Value| -> Vec<Value> {
            let trained = json[0]["trained"].as_array().unwrap().iter();
            trained.map(|trained| trained["figures"].clone()).collect()
        };
        let one = figures(world.run("bench table.toml --json --out one").json());
        assert_eq!(one.len(), 4);
        let two = figures(run(&world, 2, "bench table.toml --json --out two").json());
        assert_eq!(two, one);
    }

    #[test]
    fn a_folder_is_tagged_and_searched_by_all() {
        let world = World::of(24, 12);
        world.run("train recipe.toml --out model").done();
        std::fs::create_dir(world.path("photos")).unwrap();
        for name in [
            "train-0001.png",
            "train-0002.png",
            "test-0024.jpg",
            "test-0030.jpg",
        ] {
            std::fs::copy(world.path(name), world.path(format!("photos/{name}"))).unwrap();
        }
        world.write("photos/broken.jpg", "words");
        let tag = "tag photos --model model/seed-1/model.safetensors --top 2 --out";
        let one = world.run(&format!("{tag} one"));
        let two = run(&world, 2, &format!("{tag} two"));
        assert_eq!((one.code, &one.stdout), (Some(1), &two.stdout));
        assert!(two.stderr.contains("broken.jpg"), "{two:?}");
        // Photographs are ranked in other company, so that sums round otherwise.
        assert_eq!(labels(&world, "two"), labels(&world, "one"));
        let again = run(&world, 3, &format!("{tag} two"));
        assert!(!again.stdout.contains("test-0024.jpg"), "{again:?}");
        let found = world.run("search two magenta --json").json();
        assert_eq!(found.as_array().unwrap().len(), 4);
        assert_eq!(run(&world, 3, "search two magenta --json").json(), found);
    }

    /// Two ranks, each with a command of its own, in a folder of its own.
    fn run_two(world: &World, [first, second]: [(&str, &str); 2]) -> Ended {
        let mut job = Command::new("mpirun");
        job.args([
            "--allow-run-as-root",
            "--oversubscribe",
            "--bind-to",
            "none",
        ]);
        for (at, (folder, arguments)) in [first, second].into_iter().enumerate() {
            if at > 0 {
                job.arg(":");
            }
            job.args(["-n", "1", "--wdir"])
                .arg(world.path(folder))
                .arg(env!("CARGO_BIN_EXE_epsilon"))
                .args(arguments.split_whitespace())
                .args(["--threads", "1"]);
        }
        job.env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        world.end(job, "two commands")
    }

    /// A machine with an older copy of a file would otherwise make a mixture of both.
    #[test]
    fn ranks_that_were_given_something_else_are_refused() {
        let world = World::new();
        world.run("train recipe.toml --out one").done();
        world.run("train recipe.toml --out two --seed 2").done();
        let refused = |commands, part: &str| {
            let ended = run_two(&world, commands);
            assert_eq!(ended.code, Some(2), "{ended:?}");
            assert!(ended.stderr.contains(part), "{part}: {ended:?}");
        };
        let train = "train recipe.toml --out three";
        refused(
            [
                (".", train),
                (".", "train recipe.toml --out three --seed 2"),
            ],
            "rank 1 was started with another command",
        );
        refused(
            [(".", "search one red"), (".", train)],
            "rank 1 was started with another command",
        );
        // The other one's folder has a recipe, a model and data of its own.
        std::fs::create_dir_all(world.path("other")).unwrap();
        let out = world.path("three");
        let train = format!("train recipe.toml --out {}", out.display());
        let other = |from: &str, to: &str| {
            for file in [
                "labels.tsv",
                "seen.txt",
                "unseen.txt",
                "vectors.txt",
                "backbone.safetensors",
            ] {
                std::fs::copy(world.path(file), world.path(format!("other/{file}"))).unwrap();
            }
            let recipe = world.text("recipe.toml").replace(from, to);
            world.write("other/recipe.toml", recipe);
        };
        let differs = "rank 1 has another recipe, or other data, than rank 0";
        other("learning-rate = 1e-3", "learning-rate = 2e-3");
        refused([(".", &train), ("other", &train)], differs);
        other("no such text", "");
        refused([(".", &train), ("other", &train)], differs);
        let here = world.path(".");
        let eval = "eval seed-1/model.safetensors";
        std::fs::rename(world.path("two/seed-2"), world.path("two/seed-1")).unwrap();
        refused([("one", eval), ("two", eval)], "rank 1 has another");
        // Folders that are not the same one.
        let train = format!("train {}/recipe.toml --out three", here.display());
        refused(
            [("one", &train), ("two", &train)],
            "rank 1 does not see there",
        );
        assert!(!world.path("one/three/tokens-parts").exists());
    }

    /// What ranks have begun to extract, one process goes on with.
    #[test]
    fn parts_are_finished_by_one_process() {
        let world = World::of(290, 20);
        run(&world, 2, "extract recipe.toml --out whole").done();
        let mut job = command(&world, 2, "extract recipe.toml --out part");
        let mut job = job.spawn().unwrap();
        let parts = world.path("part/tokens-parts");
        let start = Instant::now();
        while !parts.exists() && start.elapsed() < Duration::from_secs(20) {
            std::thread::sleep(Duration::from_millis(5));
        }
        job.kill().unwrap();
        job.wait().unwrap();
        // Its ranks end a moment later.
        std::thread::sleep(Duration::from_secs(3));
        world.run("extract recipe.toml --out part").done();
        crate::world::assert_same_files(&world.files("part/tokens"), &world.files("whole/tokens"));
        // A job that was killed while it removed the parts leaves some.
        std::fs::create_dir_all(&parts).unwrap();
        run(&world, 2, "extract recipe.toml --out part").done();
        assert!(!parts.exists());
    }

    /// All ranks are there for every search, several at once and after the library has grown, and end with the server.
    #[test]
    fn a_library_is_served_by_all() {
        let world = crate::gallery::world();
        let one = Server::of_library(&world, "photos");
        let arguments = "serve --library photos --listen 127.0.0.1:0";
        let mut all = Server::started(command(&world, 3, arguments));
        let searches = [
            "q=magenta",
            "q=purple&folder=sub",
            "like=b.png",
            "q=red&order=date",
        ];
        let found = |server: &Server, search: &str| {
            let found = server.get(&format!("/v1/library/photos?{search}")).json();
            found["photos"].clone()
        };
        let same = || {
            std::thread::scope(|scope| {
                for search in searches.iter().cycle().take(24) {
                    scope.spawn(|| assert_eq!(found(&all, search), found(&one, search)));
                }
            });
        };
        same();
        assert_eq!(found(&all, "q=magenta").as_array().unwrap().len(), 5);
        std::fs::copy(world.path("test-0030.jpg"), world.path("photos/new.jpg")).unwrap();
        world
            .run("tag --model out/seed-1/model.safetensors photos --top 3")
            .partly(&["broken.png"]);
        same();
        assert_eq!(found(&all, "q=magenta").as_array().unwrap().len(), 6);
        let ranks = children(all.pid());
        assert_eq!(ranks.len(), 3);
        let stop = |pid: u32| Command::new("kill").arg(pid.to_string()).status();
        assert!(stop(ranks[0]).unwrap().success());
        assert_eq!(all.wait(), Some(0), "the others leave with the first");

        let lost = Server::started(command(&world, 3, arguments));
        let ranks = children(lost.pid());
        let killed = Command::new("kill")
            .args(["-9", &ranks[2].to_string()])
            .status();
        assert!(killed.unwrap().success());
        let mut lost = lost;
        assert_ne!(
            lost.wait(),
            Some(0),
            "without one of them there is no server"
        );
    }

    #[test]
    fn only_a_library_is_served_by_several() {
        let world = World::new();
        let ended = run(&world, 2, "serve --model nothing --listen 127.0.0.1:0");
        assert_eq!(ended.code, Some(2), "{ended:?}");
        assert!(
            ended.stderr.contains("serve a tagged library together"),
            "{ended:?}"
        );
    }

    /// Photographs with the names of their labels, or why they have none.
    fn labels(world: &World, library: &str) -> Vec<String> {
        let text = world.text(&format!("{library}/tags.jsonl"));
        let line = |line: &str| {
            let line: Value = serde_json::from_str(line).unwrap();
            let names = line["labels"].as_array().into_iter().flatten();
            let names: Vec<&Value> = names.map(|label| &label["name"]).collect();
            format!("{} {names:?} {}", line["photo"], line["error"])
        };
        text.lines().map(line).collect()
    }

    #[test]
    fn an_error_is_said_once_and_ends_all() {
        let world = World::new();
        world.write("vectors.txt", "words");
        let ended = run(&world, 3, "train recipe.toml --out run");
        assert_eq!(ended.code, Some(2), "{ended:?}");
        assert_eq!(
            ended.stderr.matches("epsilon: rank").count(),
            1,
            "{ended:?}"
        );
        let ended = run(&world, 2, "quickstart --out quick");
        assert_ne!(ended.code, Some(0));
        assert!(ended.stderr.contains("runs in one process"), "{ended:?}");
        world.write("scores.csv", "photo,red\na,0.5\n");
        world.write("truth.csv", "photo,red\na,1\n");
        let scores =
            "eval --scores scores.csv --labels truth.csv --zero negative --per-label out.csv";
        let ended = run(&world, 2, scores);
        assert!(ended.stderr.contains("2 were started"), "{ended:?}");
        assert!(!world.path("out.csv").exists());
    }

    /// The processes of the program below one of `mpirun`.
    fn children(of: u32) -> Vec<u32> {
        let path = format!("/proc/{of}/task/{of}/children");
        let text = std::fs::read_to_string(Path::new(&path)).unwrap_or_default();
        text.split_whitespace()
            .map(|pid| pid.parse().unwrap())
            .collect()
    }

    /// A rank is killed at one moment after another; the job ends, and goes on with another number of ranks to the same end.
    #[test]
    fn a_killed_rank_ends_the_job_which_is_then_resumed() {
        let world = World::of(290, 20);
        world.edit("recipe.toml", "epochs = 1", "epochs = 4");
        world.run("train recipe.toml --out whole").done();
        for (round, moment) in [250, 500, 800, 1200].into_iter().enumerate() {
            let out = format!("killed-{round}");
            let arguments = format!("train recipe.toml --resume --out {out}");
            let mut job = command(&world, 2, &arguments).spawn().unwrap();
            std::thread::sleep(Duration::from_millis(moment));
            let ranks = children(job.id());
            if let Some(pid) = ranks.get(round % 2) {
                Command::new("kill")
                    .args(["-9", &pid.to_string()])
                    .status()
                    .unwrap();
            }
            let start = Instant::now();
            job.wait().unwrap();
            assert!(
                start.elapsed() < Duration::from_secs(60),
                "the others went on"
            );
            let said = run(&world, 3, &arguments);
            assert_eq!(said.code, Some(0), "{said:?}");
            assert_close(&losses(&world, &out), &losses(&world, "whole"));
            let store = |run: &str| world.files(&format!("{run}/tokens"));
            crate::world::assert_same_files(&store(&out), &store("killed-0"));
        }
    }
}
