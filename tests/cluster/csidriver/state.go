package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// volume is the metadata of a volume; the volume exists if and only if this file does.
type volume struct {
	ID       string          `json:"id"`
	Name     string          `json:"name"`
	Size     int64           `json:"size"`   // bytes
	Source   string          `json:"source"` // id of the snapshot or volume it was made from, or empty
	Attached map[string]mode `json:"attached"`
}

// mode is how a node uses a volume.
type mode struct {
	Block    bool `json:"block"`
	Shared   bool `json:"shared"` // an access mode of several nodes
	Readonly bool `json:"readonly"`
}

// snapshot is the metadata of a snapshot; the snapshot exists if and only if this file does.
type snapshot struct {
	ID           string    `json:"id"`
	Name         string    `json:"name"`
	Volume       string    `json:"volume"`
	Size         int64     `json:"size"` // bytes
	Created      time.Time `json:"created"`
	ReadySeconds float64   `json:"readySeconds"` // after creation
}

// state is the directory that all nodes share: volumes/<id>/{meta.json,data}, snapshots/<id>/{meta.json,data},
// nodes/<id>, locks/<id>.
type state struct {
	directory string
}

func openState(directory string) (*state, error) {
	for _, name := range []string{"volumes", "snapshots", "nodes", "locks"} {
		if err := os.MkdirAll(filepath.Join(directory, name), 0o755); err != nil {
			return nil, err
		}
	}
	return &state{directory: directory}, nil
}

// Ids come from names, so that a name has one id in all processes; hashed, so that no one takes a volume's
// handle for the name of its PersistentVolume.
func hashed(prefix, name string) string {
	sum := sha256.Sum256([]byte(name))
	return prefix + hex.EncodeToString(sum[:10])
}

func volumeID(name string) string   { return hashed("vol-", name) }
func snapshotID(name string) string { return hashed("snap-", name) }

func (s *state) volumeDir(id string) string   { return filepath.Join(s.directory, "volumes", id) }
func (s *state) snapshotDir(id string) string { return filepath.Join(s.directory, "snapshots", id) }
func data(directory string) string            { return filepath.Join(directory, "data") }
func meta(directory string) string            { return filepath.Join(directory, "meta.json") }

func readJSON(path string, into any) error {
	content, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(content, into); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// writeJSON replaces the file at once, so that a reader or a crash meets the old or the new one. The caller
// holds the lock of what it describes.
func writeJSON(path string, from any) error {
	content, err := json.MarshalIndent(from, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(path+".new", append(content, '\n'), 0o644); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// local says that an id cannot lead out of the state directory; others never were ours.
func local(id string) bool {
	return id != "" && id == filepath.Base(id) && id != "." && id != ".."
}

// volume returns nil if there is none of this id.
func (s *state) volume(id string) (*volume, error) {
	return load[volume](id, s.volumeDir(id))
}

// snapshot returns nil if there is none of this id.
func (s *state) snapshot(id string) (*snapshot, error) {
	return load[snapshot](id, s.snapshotDir(id))
}

func load[T any](id, directory string) (*T, error) {
	if !local(id) {
		return nil, nil
	}
	found := new(T)
	err := readJSON(meta(directory), found)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return found, err
}

// existing is volume with NOT_FOUND instead of nil.
func (s *state) existing(id string) (*volume, error) {
	if id == "" {
		return nil, status.Error(codes.InvalidArgument, "no volume id")
	}
	v, err := s.volume(id)
	if err == nil && v == nil {
		err = status.Errorf(codes.NotFound, "volume %s does not exist", id)
	}
	return v, err
}

func (s *state) save(v *volume) error { return writeJSON(meta(s.volumeDir(v.ID)), v) }

// snapshots returns all of them, in the order of their ids.
func (s *state) snapshots() ([]*snapshot, error) {
	entries, err := os.ReadDir(filepath.Join(s.directory, "snapshots"))
	if err != nil {
		return nil, err
	}
	var found []*snapshot
	for _, entry := range entries {
		one, err := s.snapshot(entry.Name())
		if err != nil {
			return nil, err
		}
		if one != nil {
			found = append(found, one)
		}
	}
	return found, nil
}

// remove takes a volume or snapshot away; its metadata goes first, so that half of it is never taken for one.
func remove(directory string) error {
	if err := os.Remove(meta(directory)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.RemoveAll(directory)
}

func (s *state) addNode(id string) error {
	return os.WriteFile(filepath.Join(s.directory, "nodes", id), nil, 0o644)
}

func (s *state) knowsNode(id string) bool {
	_, err := os.Stat(filepath.Join(s.directory, "nodes", id))
	return local(id) && err == nil
}

// lock keeps all other processes and calls from these ids until the returned function is called; ABORTED if
// the client's patience ends before. Ids are taken in one order everywhere, so two calls never wait for each
// other. A killed process loses its locks.
func (s *state) lock(ctx context.Context, ids ...string) (func(), error) {
	slices.Sort(ids)
	var held []func()
	unlock := func() {
		for _, one := range held {
			one()
		}
	}
	for _, id := range slices.Compact(ids) {
		if !local(id) {
			continue // exists nowhere, so there is nothing to protect
		}
		one, err := lockFile(ctx, filepath.Join(s.directory, "locks", id))
		if err != nil {
			unlock()
			return nil, err
		}
		held = append(held, one)
	}
	return unlock, nil
}

func lockFile(ctx context.Context, path string) (func(), error) {
	for {
		file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
		if err != nil {
			return nil, err
		}
		err = unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil && sameFile(file, path) {
			// Removed while held, so that locks of things long gone do not pile up.
			return func() { os.Remove(path); file.Close() }, nil
		}
		file.Close()
		if err == nil {
			continue // the holder before removed it: this lock is nobody's
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		select {
		case <-ctx.Done():
			return nil, status.Errorf(codes.Aborted, "another call on %s is under way", filepath.Base(path))
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func sameFile(file *os.File, path string) bool {
	here, err := file.Stat()
	if err != nil {
		return false
	}
	there, err := os.Stat(path)
	return err == nil && os.SameFile(here, there)
}
