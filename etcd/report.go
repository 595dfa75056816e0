// SPDX-License-Identifier: Apache-2.0

package etcd

// ReportVersion is the schema of the JSON that muster-etcd prints. It changes
// when a field goes or changes its meaning, not when one is added.
const ReportVersion = "muster-etcd/v1"

// Health is what `muster-etcd health -o json` says of the local member.
type Health struct {
	APIVersion string `json:"apiVersion"`
	Member     string `json:"member"`
	// Healthy: there is a leader, a linearizable read was answered (so there is
	// a quorum), and no alarm is raised.
	Healthy bool   `json:"healthy"`
	Problem string `json:"problem,omitempty"`
	// MemberID and LeaderID are etcd's, in hexadecimal; LeaderID is "" without
	// a leader.
	MemberID string   `json:"memberID,omitempty"`
	LeaderID string   `json:"leaderID,omitempty"`
	Learner  bool     `json:"learner,omitempty"`
	Members  int      `json:"members"`  // voting and learning
	Learners int      `json:"learners"` // of these, without a vote
	Version  string   `json:"version,omitempty"`
	Alarms   []string `json:"alarms,omitempty"`
	// DBSize is the size of the database file in bytes, DBSizeInUse what would
	// be left after defragmentation, and DBQuota where etcd stops writing.
	DBSize      int64 `json:"dbSize"`
	DBSizeInUse int64 `json:"dbSizeInUse"`
	DBQuota     int64 `json:"dbQuota"`
}

// MemberList is what `muster-etcd members -o json` says.
type MemberList struct {
	APIVersion string   `json:"apiVersion"`
	Members    []Member `json:"members"` // sorted by name
}

// Member is one member of the cluster, as the cluster knows it.
type Member struct {
	ID         string   `json:"id"`   // hexadecimal
	Name       string   `json:"name"` // "" for one that has not started yet
	PeerURLs   []string `json:"peerURLs"`
	ClientURLs []string `json:"clientURLs"`
	Learner    bool     `json:"learner"`
}
