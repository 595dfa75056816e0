// SPDX-License-Identifier: Apache-2.0

// Command tiny stands for the program of another project.
package main

var version = "none"

func main() { println("tiny " + version) }
