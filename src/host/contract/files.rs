//! Files and directories of a pool.

use super::area::Area;
use super::{Ctx, Done, Row, caused, holds, same};
use crate::host::{Cause, FileKind};

const MIB: u64 = 1 << 20;

pub(super) const CHECKS: &[Row] = &[
    ("what is missing has no metadata and no bytes", missing),
    ("a file is written only at a free name", write_once),
    ("a sparse file takes no space and is made only at a free name", sparse),
    ("a file of 1 MiB is read and a larger one is not", read_limit),
    ("a file grows by a hole and shrinks", set_len),
    ("bytes are read and written within a file and never beyond its end", parts),
    ("allocating fills the holes and keeps the bytes", allocate),
    ("blocks of zeros are given back and the bytes stay", zeros),
    ("a rename replaces a file and keeps the inode", rename),
    ("removing a missing file says so and a directory is not removed as one", remove_file),
    ("a directory is made once, and removed only when it is empty", directories),
    ("a listing has every name with its kind", listing),
    ("what is synced must be there", syncs),
    ("extents are listed in order from a place on, at most so many", extents),
    ("the filesystem of a path has a kind, a size and a device", fs_stat),
    ("a directory is locked by one at a time", lock),
    ("the facts of a machine stay, and a missing program is missing", facts),
];

fn missing(ctx: &Ctx) -> Done {
    let area = Area::new(ctx, "missing")?;
    let path = area.path("nothing");
    same("metadata", ctx.host.metadata(&path)?, None)?;
    same("bytes", ctx.host.read_file(&path)?, None)?;
    same("metadata below it", ctx.host.metadata(&path.join("deeper"))?, None)?;
    caused("listing", ctx.host.read_dir(&path), Cause::NotFound)
}

fn write_once(ctx: &Ctx) -> Done {
    let area = Area::new(ctx, "write-once")?;
    let path = area.path("a");
    ctx.host.write_file(&path, b"first")?;
    caused("again", ctx.host.write_file(&path, b"second"), Cause::Exists)?;
    same("bytes", ctx.host.read_file(&path)?, Some(b"first".to_vec()))?;
    let meta = ctx.host.metadata(&path)?.map(|meta| (meta.kind, meta.len));
    same("metadata", meta, Some((FileKind::File, 5)))?;
    caused("below nothing", ctx.host.write_file(&area.path("no/b"), b""), Cause::NotFound)
}

fn sparse(ctx: &Ctx) -> Done {
    let area = Area::new(ctx, "sparse")?;
    let path = area.path("a");
    ctx.host.create_file(&path, 64 * MIB)?;
    let meta = ctx.host.metadata(&path)?;
    same("length", meta.map(|meta| meta.len), Some(64 * MIB))?;
    holds("it takes next to no space", meta.is_some_and(|meta| meta.allocated <= 64 << 10))?;
    caused("again", ctx.host.create_file(&path, 1), Cause::Exists)?;
    same("length", ctx.host.metadata(&path)?.map(|meta| meta.len), Some(64 * MIB))
}

fn read_limit(ctx: &Ctx) -> Done {
    let area = Area::new(ctx, "read-limit")?;
    ctx.host.create_file(&area.path("fits"), MIB)?;
    same("length", ctx.host.read_file(&area.path("fits"))?.map(|bytes| bytes.len() as u64), Some(MIB))?;
    ctx.host.create_file(&area.path("too-large"), MIB + 1)?;
    caused("too large", ctx.host.read_file(&area.path("too-large")), Cause::Invalid)?;
    caused("a directory", ctx.host.read_file(&area.dir), Cause::Invalid)
}

fn set_len(ctx: &Ctx) -> Done {
    let area = Area::new(ctx, "set-len")?;
    let path = area.path("a");
    ctx.host.write_file(&path, b"12345678")?;
    ctx.host.set_len(&path, 10)?;
    same("grown", ctx.host.read_file(&path)?, Some(b"12345678\0\0".to_vec()))?;
    ctx.host.set_len(&path, 2)?;
    same("shrunk", ctx.host.read_file(&path)?, Some(b"12".to_vec()))?;
    ctx.host.set_len(&path, 4)?;
    same("grown again", ctx.host.read_file(&path)?, Some(b"12\0\0".to_vec()))?;
    caused("missing", ctx.host.set_len(&area.path("b"), 1), Cause::NotFound)
}

fn parts(ctx: &Ctx) -> Done {
    let area = Area::new(ctx, "parts")?;
    let path = area.path("a");
    ctx.host.create_file(&path, 3 * MIB)?;
    ctx.host.write_at(&path, MIB + 5, b"across")?;
    ctx.host.write_at(&path, 2 * MIB - 2, &[7; 4])?;
    same("read back", ctx.host.read_at(&path, MIB + 4, 8)?, b"\0across\0".to_vec())?;
    same("over the edge of a block", ctx.host.read_at(&path, 2 * MIB - 3, 6)?, vec![0, 7, 7, 7, 7, 0])?;
    let meta = ctx.host.metadata(&path)?;
    holds("the rest is a hole", meta.is_some_and(|meta| meta.allocated <= MIB && meta.len == 3 * MIB))?;
    same("a hole", ctx.host.read_at(&path, 0, 4)?, vec![0; 4])?;
    same("at the end", ctx.host.read_at(&path, 3 * MIB - 1, 10)?, vec![0])?;
    same("behind the end", ctx.host.read_at(&path, 4 * MIB, 10)?, Vec::new())?;
    ctx.host.write_at(&path, 3 * MIB - 1, b"z")?;
    same("the last byte", ctx.host.read_at(&path, 3 * MIB - 1, 10)?, b"z".to_vec())?;
    caused("over the end", ctx.host.write_at(&path, 3 * MIB - 1, b"zz"), Cause::Invalid)?;
    caused("far behind it", ctx.host.write_at(&path, u64::MAX, b"z"), Cause::Invalid)?;
    same("length", ctx.host.metadata(&path)?.map(|meta| meta.len), Some(3 * MIB))?;
    caused("missing", ctx.host.write_at(&area.path("b"), 0, b"z"), Cause::NotFound)?;
    caused("reading what is missing", ctx.host.read_at(&area.path("b"), 0, 1), Cause::NotFound)
}

fn allocate(ctx: &Ctx) -> Done {
    let area = Area::new(ctx, "allocate")?;
    let path = area.path("a");
    ctx.host.write_file(&path, b"data")?;
    ctx.host.set_len(&path, MIB)?;
    ctx.host.allocate(&path)?;
    ctx.host.sync_file(&path)?;
    holds("it takes its length", ctx.host.metadata(&path)?.is_some_and(|meta| meta.allocated >= MIB))?;
    let bytes = ctx.host.read_file(&path)?.unwrap_or_default();
    same("start", bytes.get(..5), Some(&b"data\0"[..]))?;
    holds("the rest is zeros", bytes.iter().skip(5).all(|byte| *byte == 0))?;
    holds("some of it is only set aside", ctx.host.extents(&path, 0, 100)?.iter().any(|e| e.unwritten))?;
    caused("missing", ctx.host.allocate(&area.path("b")), Cause::NotFound)
}

fn zeros(ctx: &Ctx) -> Done {
    let area = Area::new(ctx, "zeros")?;
    let path = area.path("a");
    let mut bytes = vec![0; MIB as usize];
    bytes[500_000] = 7;
    ctx.host.write_file(&path, &bytes)?;
    ctx.host.sync_file(&path)?;
    holds("it took its length", ctx.host.metadata(&path)?.is_some_and(|meta| meta.allocated >= MIB))?;
    ctx.host.deallocate_zeros(&path)?;
    ctx.host.sync_file(&path)?;
    let meta = ctx.host.metadata(&path)?;
    holds("it takes little now", meta.is_some_and(|meta| meta.allocated <= 128 << 10 && meta.len == MIB))?;
    holds("the bytes are the same", ctx.host.read_file(&path)?.as_ref() == Some(&bytes))?;
    caused("missing", ctx.host.deallocate_zeros(&area.path("b")), Cause::NotFound)
}

fn rename(ctx: &Ctx) -> Done {
    let area = Area::new(ctx, "rename")?;
    let (a, b) = (area.path("a"), area.path("b"));
    ctx.host.write_file(&a, b"new")?;
    ctx.host.write_file(&b, b"old")?;
    let ino = ctx.host.metadata(&a)?.map(|meta| (meta.dev, meta.ino));
    ctx.host.rename(&a, &b)?;
    same("from", ctx.host.metadata(&a)?, None)?;
    same("to", ctx.host.read_file(&b)?, Some(b"new".to_vec()))?;
    same("inode", ctx.host.metadata(&b)?.map(|meta| (meta.dev, meta.ino)), ino)?;
    caused("missing", ctx.host.rename(&a, &b), Cause::NotFound)?;
    ctx.host.make_dir(&a)?;
    holds("a file does not replace a directory", ctx.host.rename(&b, &a).is_err())?;
    same("it is where it was", ctx.host.read_file(&b)?, Some(b"new".to_vec()))
}

fn remove_file(ctx: &Ctx) -> Done {
    let area = Area::new(ctx, "remove-file")?;
    ctx.host.write_file(&area.path("a"), b"")?;
    same("there", ctx.host.remove_file(&area.path("a"))?, true)?;
    same("gone", ctx.host.remove_file(&area.path("a"))?, false)?;
    same("below nothing", ctx.host.remove_file(&area.path("no/a"))?, false)?;
    ctx.host.make_dir(&area.path("d"))?;
    holds("a directory is refused", ctx.host.remove_file(&area.path("d")).is_err())?;
    holds("and still there", ctx.host.metadata(&area.path("d"))?.is_some())
}

fn directories(ctx: &Ctx) -> Done {
    let area = Area::new(ctx, "directories")?;
    let (dir, file) = (area.path("d"), area.path("d/f"));
    same("made", ctx.host.make_dir(&dir)?, true)?;
    same("there", ctx.host.make_dir(&dir)?, false)?;
    caused("below nothing", ctx.host.make_dir(&area.path("no/d")), Cause::NotFound)?;
    ctx.host.write_file(&file, b"x")?;
    caused("on a file", ctx.host.make_dir(&file), Cause::Exists)?;
    caused("not empty", ctx.host.remove_dir(&dir), Cause::NotEmpty)?;
    caused("a file", ctx.host.remove_dir(&file), Cause::Invalid)?;
    ctx.host.remove_file(&file)?;
    same("removed", ctx.host.remove_dir(&dir)?, true)?;
    same("gone", ctx.host.remove_dir(&dir)?, false)
}

fn listing(ctx: &Ctx) -> Done {
    let area = Area::new(ctx, "listing")?;
    ctx.host.make_dir(&area.path("d"))?;
    ctx.host.write_file(&area.path("f"), b"")?;
    let mut names: Vec<_> = ctx.host.read_dir(&area.dir)?.into_iter().map(|e| (e.name, e.kind)).collect();
    names.sort_by(|a, b| a.0.cmp(&b.0));
    let want = vec![("d".to_owned(), FileKind::Directory), ("f".to_owned(), FileKind::File)];
    same("names", names, want)?;
    holds("a file has no listing", ctx.host.read_dir(&area.path("f")).is_err())
}

fn syncs(ctx: &Ctx) -> Done {
    let area = Area::new(ctx, "syncs")?;
    ctx.host.write_file(&area.path("f"), b"x")?;
    ctx.host.sync_file(&area.path("f"))?;
    ctx.host.sync_dir(&area.dir)?;
    caused("file", ctx.host.sync_file(&area.path("no")), Cause::NotFound)?;
    caused("directory", ctx.host.sync_dir(&area.path("no")), Cause::NotFound)?;
    caused("a file as a directory", ctx.host.sync_dir(&area.path("f")), Cause::Invalid)
}

fn extents(ctx: &Ctx) -> Done {
    let area = Area::new(ctx, "extents")?;
    let path = area.path("a");
    ctx.host.create_file(&path, 8 * MIB)?;
    same("of a hole", ctx.host.extents(&path, 0, 10)?, Vec::new())?;
    ctx.host.write_file(&area.path("b"), &vec![1; 256 << 10])?;
    ctx.host.set_len(&area.path("b"), 8 * MIB)?;
    let all = ctx.host.extents(&area.path("b"), 0, 100)?;
    same("bytes", all.iter().map(|e| e.len).sum(), 256_u64 << 10)?;
    holds("they are in order", all.windows(2).all(|two| two[0].logical + two[0].len <= two[1].logical))?;
    holds("they are written and nobody else's", all.iter().all(|e| !e.shared && !e.unwritten))?;
    same("behind the data", ctx.host.extents(&area.path("b"), 256 << 10, 100)?, Vec::new())?;
    let part = ctx.host.extents(&area.path("b"), 128 << 10, 100)?;
    holds("those that reach beyond the start", part.iter().all(|e| e.logical + e.len > 128 << 10))?;
    same("at most one", ctx.host.extents(&area.path("b"), 0, 1)?.len(), 1)?;
    caused("missing", ctx.host.extents(&area.path("c"), 0, 1), Cause::NotFound)
}

fn fs_stat(ctx: &Ctx) -> Done {
    let area = Area::new(ctx, "fs-stat")?;
    let stat = ctx.host.fs_stat(&area.dir)?;
    same("kind", stat.fs.as_str(), ctx.fs.as_str())?;
    holds("it has room", stat.available > 0 && stat.available <= stat.size && !stat.read_only)?;
    same("device", ctx.host.metadata(&area.dir)?.map(|meta| meta.dev), Some(stat.dev))?;
    caused("missing", ctx.host.fs_stat(&area.path("no")), Cause::NotFound)
}

fn lock(ctx: &Ctx) -> Done {
    let area = Area::new(ctx, "lock")?;
    let lock = ctx.host.lock_dir(&area.dir)?;
    caused("while it is held", ctx.host.lock_dir(&area.dir), Cause::Busy)?;
    drop(lock);
    drop(ctx.host.lock_dir(&area.dir)?);
    caused("missing", ctx.host.lock_dir(&area.path("no")), Cause::NotFound)
}

fn facts(ctx: &Ctx) -> Done {
    let facts = ctx.host.facts()?;
    same("facts", ctx.host.facts()?, facts.clone())?;
    holds("a boot has an id", !facts.boot_id.is_empty())?;
    same("filesystems", facts.filesystems.iter().any(|fs| fs == &ctx.fs), true)?;
    same("program", ctx.host.program("no-such-program"), None)
}
