// SPDX-License-Identifier: Apache-2.0

package build

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path"
	"strings"
)

// parseChecksum finds the SHA256 of the file called name in a checksum file.
// Projects write either one bare hash, or lines as sha256sum prints them.
func parseChecksum(raw []byte, name string) (string, error) {
	found := ""
	lines := bufio.NewScanner(bytes.NewReader(raw))
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) == 0 || len(fields) > 2 {
			continue
		}
		if len(fields) == 2 && path.Base(strings.TrimPrefix(fields[1], "*")) != name {
			continue
		}
		sum := strings.ToLower(fields[0])
		if raw, err := hex.DecodeString(sum); err != nil || len(raw) != sha256.Size {
			return "", fmt.Errorf("checksum of %s: %q is no SHA256", name, fields[0])
		}
		if found != "" && found != sum {
			return "", fmt.Errorf("checksum of %s: two different ones, %s and %s", name, found, sum)
		}
		found = sum
	}
	if err := lines.Err(); err != nil {
		return "", fmt.Errorf("checksum of %s: %w", name, err)
	}
	if found == "" {
		return "", fmt.Errorf("checksum of %s: the checksum file has none", name)
	}
	return found, nil
}
