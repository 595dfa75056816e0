// SPDX-License-Identifier: Apache-2.0

// Command hello stands for a program of muster itself.
package main

import "github.com/muster-project/muster/greeting"

func main() { println(greeting.Text) }
