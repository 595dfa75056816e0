// SPDX-License-Identifier: Apache-2.0

package build

func peers() []recipe { return nil }
