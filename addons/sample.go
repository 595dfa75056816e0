// SPDX-License-Identifier: Apache-2.0

package addons

import "errors"

// SampleNodePort is where the sample answers on every host.
const SampleNodePort = 30080

// Sample is a small program behind a Service, to see that a cluster works: two
// pods, spread over hosts, that answer HTTP with their own name. image is an
// agnhost of Kubernetes' tests.
func Sample(image string) (Addon, error) {
	if image == "" {
		return Addon{}, errors.New("add-on sample: image is empty")
	}
	objects, err := load("sample.yaml", struct {
		Image    string
		NodePort int
	}{image, SampleNodePort})
	if err != nil {
		return Addon{}, err
	}
	return Addon{Name: "sample", Images: []string{image}, Objects: objects}, nil
}
