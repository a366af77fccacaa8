package vmnet

// TryDevice is tryDevice.
var TryDevice = tryDevice

// ForwardAsOldKernels has n forward IPv6 as on a kernel before 6.17.
func (n *Network) ForwardAsOldKernels() { n.oldForwarding = true }

// WithoutIngress has n do without rules at devices, as on a kernel that has none.
func (n *Network) WithoutIngress() { n.can.ingress = false }
