//! A full disk, which a small file system in memory plays: a clear error, what was there stays, and with room again the
//! same command ends as it should.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use crate::gallery;
use crate::server::Server;
use crate::world::{World, assert_same_files, files};

/// A mounted file system of a few MiB.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None`, and a line that says so, where it cannot be mounted.
    fn mount(folder: PathBuf, mebibytes: usize) -> Option<Self> {
        fs::create_dir(&folder).unwrap();
        let mut mount = Command::new("mount");
        mount
            .args([
                "-t",
                "tmpfs",
                "-o",
                &format!("size={mebibytes}m"),
                "epsilon-test",
            ])
            .arg(&folder);
        let mounted =
            cfg!(target_os = "linux") && mount.output().is_ok_and(|output| output.status.success());
        if !mounted {
            println!("skipped: mounting a small file system needs Linux and root");
        }
        mounted.then_some(Self(folder))
    }

    /// Fills the disk up to `left` bytes with a file, which is given.
    fn fill(&self, left: usize) -> PathBuf {
        let path = self.0.join("filler");
        let mut size = 0;
        let mut step = 1 << 20;
        // Page by page at the end; what does not fit any more is an error and leaves the file shorter.
        while step >= 4096 {
            let bytes = vec![1; step];
            let mut file = fs::OpenOptions::new()
                .create(true)
                .append(true)
                .open(&path)
                .unwrap();
            match std::io::Write::write_all(&mut file, &bytes) {
                Ok(()) => size += step,
                Err(_) => {
                    file.set_len(size as u64).unwrap();
                    step /= 2;
                }
            }
        }
        let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.set_len(size.saturating_sub(left) as u64).unwrap();
        path
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).output();
    }
}

#[test]
fn extraction() {
    let world = World::of(500, 50);
    world.run("extract recipe.toml --out calm").done();
    let calm = world.files("calm/tokens");
    let shard = calm[Path::new("tokens-00000.safetensors")].len();
    let Some(disk) = SmallDisk::mount(world.path("disk"), 16) else {
        return;
    };
    // Room for nothing; for less than a shard; for some shards; for all shards but not the manifest beside the last.
    for left in [0, shard / 2, 2 * shard + shard / 2, 4 * shard + 60_000] {
        let filler = disk.fill(left);
        let ended = world.run("extract recipe.toml --out disk/out");
        ended.refused(&[
            "disk/out/tokens",
            "cannot be written",
            "No space left",
            "the same command goes on",
        ]);
        let written = files(&disk.path().join("out/tokens"));
        for (name, bytes) in &written {
            let whole = calm.get(name).is_none_or(|calm| calm == bytes);
            assert!(
                whole && name.extension().is_none_or(|ending| ending != "tmp"),
                "{}: half a file",
                name.display()
            );
        }
        // Full still: the same again, and nothing is lost.
        world
            .run("extract recipe.toml --out disk/out")
            .refused(&["No space left"]);
        let kept = files(&disk.path().join("out/tokens"));
        assert!(written.keys().all(|name| kept.contains_key(name)));
        fs::remove_file(filler).unwrap();
        world
            .run("extract recipe.toml --out disk/out --verify")
            .done();
        assert_same_files(&files(&disk.path().join("out/tokens")), &calm);
        fs::remove_dir_all(disk.path().join("out")).unwrap();
    }
}

#[test]
fn training() {
    let world = World::new();
    world.write(
        "longer.toml",
        world
            .text("recipe.toml")
            .replace("epochs = 1", "epochs = 4"),
    );
    world.run("train longer.toml --out calm").done();
    let calm = fs::read(world.path("calm/seed-1/model.safetensors")).unwrap();
    let checkpoint = fs::metadata(world.path("calm/seed-1/checkpoints/last.safetensors"))
        .unwrap()
        .len() as usize;
    let Some(disk) = SmallDisk::mount(world.path("disk"), 32) else {
        return;
    };
    // Room for nothing, for half a checkpoint, for a checkpoint but not for the next one beside it and the model.
    for left in [0, checkpoint / 2, checkpoint + checkpoint / 8] {
        world.run("train recipe.toml --out disk/out").done();
        let earlier = fs::read(disk.path().join("out/seed-1/model.safetensors")).unwrap();
        assert!(earlier != calm);
        // So that the next checkpoint needs room of its own.
        fs::remove_file(disk.path().join("out/seed-1/checkpoints/last.safetensors")).unwrap();
        let filler = disk.fill(left);
        let ended = world.run("train longer.toml --out disk/out");
        ended.refused(&["disk/out/seed-1/", "No space left"]);
        assert!(
            fs::read(disk.path().join("out/seed-1/model.safetensors")).unwrap() == earlier,
            "the model stays"
        );
        world
            .run("predict --model disk/out/seed-1/model.safetensors test-0025.png")
            .done();
        world
            .run("train longer.toml --out disk/out --resume")
            .refused(&["No space left"]);
        fs::remove_file(filler).unwrap();
        world
            .run("train longer.toml --out disk/out --resume")
            .done();
        assert!(
            fs::read(disk.path().join("out/seed-1/model.safetensors")).unwrap() == calm,
            "{left} bytes left: the model differs"
        );
        let metrics = fs::read_to_string(disk.path().join("out/seed-1/metrics.jsonl")).unwrap();
        assert_eq!(metrics.lines().count(), 4);
        fs::remove_dir_all(disk.path().join("out")).unwrap();
    }
}

/// A library that lets nothing be written is shown all the same, and what cannot be done is said.
#[test]
fn a_library_on_a_full_or_read_only_disk() {
    let world = gallery::world();
    let Some(disk) = SmallDisk::mount(world.path("disk"), 4) else {
        return;
    };
    let copied = Command::new("cp")
        .args(["-a", "photos", "disk/photos"])
        .current_dir(world.path("."))
        .status();
    assert!(copied.unwrap().success());
    fs::create_dir(disk.path().join("new")).unwrap();
    fs::copy(world.path("test-0024.jpg"), disk.path().join("new/a.jpg")).unwrap();
    let asked = |server: &Server, status: u16, code: &str| {
        let thumb = server.get("/v1/library/thumb?id=a.jpg");
        assert_eq!(thumb.status, 200, "{thumb:?}");
        assert!(image::load_from_memory(&thumb.bytes).is_ok());
        let said = json!({"labels": [{"photo": "a.jpg", "label": "Sea", "verdict": "approved"}]});
        let reply = server.post_as(
            "application/json",
            "/v1/library/corrections",
            said.to_string().as_bytes(),
        );
        assert_eq!(reply.status, status, "{reply:?}");
        assert_eq!(reply.json()["error"]["code"], code, "{reply:?}");
        assert!(reply.text.contains("nothing of this was noted"));
    };
    let filler = disk.fill(0);
    let server = Server::of_library(&world, "disk/photos");
    asked(&server, 507, "full");
    fs::remove_file(filler).unwrap();
    let read_only = Command::new("mount")
        .args(["-o", "remount,ro"])
        .arg(disk.path())
        .status();
    assert!(read_only.unwrap().success());
    asked(&server, 409, "read-only");
    drop(server);
    let tag = format!("tag --model {} disk/new", gallery::MODEL);
    world
        .run(&tag)
        .refused(&["disk/new/.epsilon", "--out LIBRARY"]);
    world.run(&format!("{tag} --out lib")).done();
}
