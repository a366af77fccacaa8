package bindings

// Role numbers of the AccessManager.
const (
	// RoleAdmin grants and revokes every role.
	RoleAdmin uint64 = 0
	// RoleUpgrader announces and carries out upgrades.
	RoleUpgrader uint64 = 1
	// RoleParam sets parameters within their compiled bounds.
	RoleParam uint64 = 2
	// RoleGuardian pauses, cancels announced upgrades and de-lists tokens.
	RoleGuardian uint64 = 3
	// RoleLister lists tokens.
	RoleLister uint64 = 7
)

// Restriction says that a function of a contract needs a role: the AccessManager must map the selector at the
// contract's proxy to the role.
type Restriction struct {
	Contract string
	Function string
	Selector [4]byte
	Role     uint64
}

// Restrictions returns every function of the suite that needs a role.
func Restrictions() []Restriction { return restrictions() }
