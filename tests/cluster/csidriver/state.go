package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

const mib = int64(1 << 20)

// volume and snapshot are what meta.json of each says. Times are Unix nanoseconds.
type volume struct {
	ID, Name, Source string
	Size             int64
	FsType           string
	Attached         []string // nodes
}

type snapshot struct {
	ID, Name, Volume string
	Size             int64
	Created          int64
}

// state is a directory that the driver's processes share: one folder for each volume and snapshot with
// meta.json and data. A folder counts when its meta.json is there, which is written last and by rename.
type state struct{ dir string }

func openState(dir string) (*state, error) {
	for _, kind := range []string{"volumes", "snapshots"} {
		if err := os.MkdirAll(filepath.Join(dir, kind), 0o700); err != nil {
			return nil, err
		}
	}
	return &state{dir}, nil
}

// locked runs one change at a time over all processes.
func (s *state) locked(change func() error) error {
	lock, err := os.OpenFile(filepath.Join(s.dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return err
	}
	return change()
}

// idOf makes an id from a name, so that creating twice is the same as once.
func idOf(prefix, name string) string {
	sum := sha256.Sum256([]byte(name))
	return prefix + "-" + hex.EncodeToString(sum[:12])
}

func (s *state) folder(kind, id string) string { return filepath.Join(s.dir, kind, filepath.Base(id)) }
func (s *state) volumeData(id string) string   { return filepath.Join(s.folder("volumes", id), "data") }
func (s *state) snapshotData(id string) string {
	return filepath.Join(s.folder("snapshots", id), "data")
}

// load reads a meta.json; false when there is none.
func (s *state) load(kind, id string, into any) (bool, error) {
	content, err := os.ReadFile(filepath.Join(s.folder(kind, id), "meta.json"))
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, json.Unmarshal(content, into)
}

func (s *state) save(kind, id string, meta any) error {
	content, err := json.Marshal(meta)
	if err != nil {
		return err
	}
	target := filepath.Join(s.folder(kind, id), "meta.json")
	if err := os.WriteFile(target+".new", content, 0o600); err != nil {
		return err
	}
	return os.Rename(target+".new", target)
}

// remove takes the meta.json first: what a crash leaves then is no volume any more, but a folder to reuse.
func (s *state) remove(kind, id string) error {
	if err := os.Remove(filepath.Join(s.folder(kind, id), "meta.json")); err != nil && !os.IsNotExist(err) {
		return err
	}
	return os.RemoveAll(s.folder(kind, id))
}

func (s *state) list(kind string) ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(s.dir, kind))
	var ids []string
	for _, entry := range entries {
		ids = append(ids, entry.Name())
	}
	return ids, err
}

// createVolume makes the data file: empty, or a copy of another.
func (s *state) createVolume(v volume, source string) error {
	folder := s.folder("volumes", v.ID)
	if err := os.RemoveAll(folder); err != nil { // a creation that was interrupted
		return err
	}
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return err
	}
	if err := copyData(source, s.volumeData(v.ID)); err != nil {
		return err
	}
	if err := os.Truncate(s.volumeData(v.ID), v.Size); err != nil {
		return err
	}
	return s.save("volumes", v.ID, v)
}

func (s *state) createSnapshot(name string, of volume) (snapshot, error) {
	made := snapshot{
		ID: idOf("snap", name), Name: name, Volume: of.ID, Size: of.Size, Created: time.Now().UnixNano(),
	}
	folder := s.folder("snapshots", made.ID)
	if err := os.RemoveAll(folder); err != nil {
		return made, err
	}
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return made, err
	}
	if err := copyData(s.volumeData(of.ID), s.snapshotData(made.ID)); err != nil {
		return made, err
	}
	return made, s.save("snapshots", made.ID, made)
}

// copyData clones a file by reflink where the file system can, else copies it; no source makes an empty one.
func copyData(source, target string) error {
	out, err := os.OpenFile(target, os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	if source == "" {
		return nil
	}
	in, err := os.OpenFile(source, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer in.Close()
	if err := in.Sync(); err != nil { // what was fsynced through a loop device is in the page cache of this file
		return err
	}
	if err := unix.IoctlFileClone(int(out.Fd()), int(in.Fd())); err == nil {
		return nil
	}
	if _, err := io.Copy(out, in); err != nil {
		return fmt.Errorf("copy %s: %w", source, err)
	}
	return nil
}
