// SPDX-License-Identifier: Apache-2.0

package agent_test

import (
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"

	"github.com/muster-project/muster/plan/step"
)

// few names, so that random steps meet what is there and each other.
func randomPath(random *rand.Rand) string {
	pick := func(names ...string) string { return names[random.IntN(len(names))] }
	path := pick("/etc", "/var/lib", "/opt", "/usr/local")
	for range 1 + random.IntN(3) {
		path += "/" + pick("a", "b", "a_b")
	}
	return path
}

func randomMode(random *rand.Rand) fs.FileMode {
	return []fs.FileMode{0o600, 0o644, 0o700, 0o755, 0o751}[random.IntN(5)]
}

// randomTree makes files, folders and links; links point nowhere, for a step
// below a link to a folder changes a path that has two names.
func randomTree(h *host, random *rand.Rand) {
	for range random.IntN(20) {
		path := randomPath(random)
		full := h.Host.Path(path)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			continue // a file is in the way
		}
		if h.Exists(path) {
			continue
		}
		switch random.IntN(3) {
		case 0:
			h.Write(path, randomMode(random), "before muster: "+path)
		case 1:
			if err := os.Symlink("/nowhere"+path, full); err != nil {
				h.T.Fatal(err)
			}
		case 2:
			if err := os.Mkdir(full, 0o755); err != nil {
				h.T.Fatal(err)
			}
			h.Chmod(path, randomMode(random)|0o700)
		}
	}
}

// randomStep is any step on files. Some fail, as on real hosts.
func randomStep(random *rand.Rand) step.Step {
	path := randomPath(random)
	switch random.IntN(4) {
	case 0:
		return step.File{Path: path, Mode: randomMode(random), Data: "muster's: " + path}
	case 1:
		return step.Directory{Path: path, Mode: randomMode(random) | 0o700, Whole: random.IntN(2) == 0}
	case 2:
		return step.Link{Path: path, Target: "/muster" + path}
	}
	return step.Absent{Path: path}
}
