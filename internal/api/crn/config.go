package crn

import "net/http"

// PublicConfig is what everybody may know of a node's settings, under the names of
// the reference. The door fills in DomainName, NodeHash and Version.
type PublicConfig struct {
	DomainName string           `json:"DOMAIN_NAME"`
	NodeHash   *string          `json:"node_hash"`
	Version    string           `json:"version"`
	References PublicReferences `json:"references"`
	Security   PublicSecurity   `json:"security"`
	Networking PublicNetworking `json:"networking"`
	Debug      PublicDebug      `json:"debug"`
	Payment    PublicPayment    `json:"payment"`
	Computing  PublicComputing  `json:"computing"`
}

// PublicReferences is where the node gets messages from.
type PublicReferences struct {
	APIServer    string `json:"API_SERVER"`
	CheckProgram string `json:"CHECK_FASTAPI_VM_ID"` // Filled in by the door.
	ConnectorURL string `json:"CONNECTOR_URL"`
}

// PublicSecurity is what the node allows.
type PublicSecurity struct {
	UseJailer        bool `json:"USE_JAILER"`
	PrintSystemLogs  bool `json:"PRINT_SYSTEM_LOGS"`
	WatchForUpdates  bool `json:"WATCH_FOR_UPDATES"`
	AllowNetworking  bool `json:"ALLOW_VM_NETWORKING"`
	DeveloperSSHKeys bool `json:"USE_DEVELOPER_SSH_KEYS"`
}

// PublicNetworking is how machines get addresses. Schedulers place instances only
// on a node with a public /64.
type PublicNetworking struct {
	IPv6Pool         string `json:"IPV6_ADDRESS_POOL"`
	IPv6Policy       string `json:"IPV6_ALLOCATION_POLICY"` // IPv6AllocationPolicy.static or IPv6AllocationPolicy.dynamic
	IPv6SubnetPrefix int    `json:"IPV6_SUBNET_PREFIX"`
	IPv6Forwarding   bool   `json:"IPV6_FORWARDING_ENABLED"`
	UseNDPProxy      bool   `json:"USE_NDP_PROXY"`
}

// PublicDebug is what helps to find defects.
type PublicDebug struct {
	SentryConfigured bool `json:"SENTRY_DSN_CONFIGURED"`
	DebugAsyncio     bool `json:"DEBUG_ASYNCIO"`
	ExecutionLog     bool `json:"EXECUTION_LOG_ENABLED"`
}

// PublicPayment is how the node is paid.
type PublicPayment struct {
	Receiver string `json:"PAYMENT_RECEIVER_ADDRESS"`
	// Chains are those of streams; keys are like Chain.AVAX.
	Chains          map[string]PublicChain `json:"AVAILABLE_PAYMENTS"`
	MonitorInterval PythonFloat            `json:"PAYMENT_MONITOR_INTERVAL"` // Seconds.
}

// PublicChain is a chain on which streams are paid.
type PublicChain struct {
	ChainID       uint64  `json:"chain_id"`
	RPC           string  `json:"rpc"`
	StandardToken *string `json:"standard_token"`
	SuperToken    *string `json:"super_token"`
	Testnet       bool    `json:"testnet"`
	Active        bool    `json:"active"`
}

// PublicComputing is what the node can run.
type PublicComputing struct {
	QEMU              bool   `json:"ENABLE_QEMU_SUPPORT"`
	DefaultHypervisor string `json:"INSTANCE_DEFAULT_HYPERVISOR"`
	Confidential      bool   `json:"ENABLE_CONFIDENTIAL_COMPUTING"`
	GPU               bool   `json:"ENABLE_GPU_SUPPORT"`
}

// publicConfig shows the settings that everybody may know.
func (s *Server) publicConfig(c *call) error {
	v := s.self.Public
	v.DomainName, v.Version, v.References.CheckProgram = s.self.Domain, s.self.Version, s.self.CheckProgram
	if hash, known := s.parts.Identity.NodeHash(); known {
		text := string(hash)
		v.NodeHash = &text
	}
	if v.Payment.Chains == nil {
		v.Payment.Chains = map[string]PublicChain{}
	}
	return s.json(c, http.StatusOK, v)
}
