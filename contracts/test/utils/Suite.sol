// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AlephLens} from "../../src/AlephLens.sol";
import {AlephToken} from "../../src/AlephToken.sol";
import {Deployer} from "../../src/Deployer.sol";
import {DomainRegistry} from "../../src/DomainRegistry.sol";
import {ImageMarketplace} from "../../src/ImageMarketplace.sol";
import {JobManager} from "../../src/JobManager.sol";
import {NodeRegistry} from "../../src/NodeRegistry.sol";
import {PaymentManager} from "../../src/PaymentManager.sol";
import {Peers} from "../../src/Peers.sol";
import {SLAManager} from "../../src/SLAManager.sol";
import {StakingManager} from "../../src/StakingManager.sol";
import {StorageRegistry} from "../../src/StorageRegistry.sol";
import {UniswapAdapter} from "../../src/UniswapAdapter.sol";
import {DevGateway} from "../../src/dev/DevGateway.sol";
import {IJobManager} from "../../src/interfaces/IJobManager.sol";
import {INodeRegistry} from "../../src/interfaces/INodeRegistry.sol";
import {IPaymentExtension} from "../../src/interfaces/IPaymentExtension.sol";
import {Roles} from "../../src/libraries/Roles.sol";
import {AccessManager} from "@openzeppelin/contracts/access/manager/AccessManager.sol";
import {Test} from "forge-std/Test.sol";
import {VmSafe} from "forge-std/Vm.sol";

/// @title Suite
/// @notice All contracts deployed as on a network, with the test contract as admin of every role, three coordinators, four
/// compute nodes and a payer with an allowance.
abstract contract Suite is Test {
    struct Party {
        uint32 id;
        address owner;
        address signer;
        uint256 key;
    }

    uint8 internal constant ALEPH = 1;
    uint256 internal constant Q = 1 << 32;
    uint40 internal constant START = 1_750_000_000;

    Deployer internal deployer;
    AccessManager internal authority;
    DevGateway internal gateway;
    AlephToken internal token;
    NodeRegistry internal nodes;
    StakingManager internal staking;
    JobManager internal jobs;
    PaymentManager internal payments;
    /// @dev The same contract, for what only its other half can.
    IPaymentExtension internal extension;
    StorageRegistry internal storages;
    AlephLens internal lens;
    UniswapAdapter internal swaps;
    DomainRegistry internal domains;
    ImageMarketplace internal images;
    SLAManager internal sla;
    // Peers that only call the PaymentManager here.
    address internal storagesAt;
    address internal imagesAt;
    address internal slaAt;

    Party[] internal coordinators;
    Party[] internal workers;
    address internal payer;
    uint256 internal payerKey;
    uint256 internal nextNonce;

    function setUp() public virtual {
        vm.warp(START);
        _deploy();
        _roles();
        payments.listToken(address(token));
        for (uint256 i; i < 3; ++i) {
            coordinators.push(_join(INodeRegistry.Kind.Coordinator, string.concat("coordinator", vm.toString(i))));
        }
        for (uint256 i; i < 4; ++i) {
            workers.push(_join(INodeRegistry.Kind.Compute, string.concat("worker", vm.toString(i))));
        }
        (payer, payerKey) = makeAddrAndKey("payer");
        _fund(payer, 1_000_000 ether);
    }

    /* DEPLOYMENT */

    /// @dev The creation code of a contract. Taken from the artifacts by name, so that a test file holds no
    /// implementation and compiles in seconds; the gas bench takes the release's.
    function _code(string memory name) internal view virtual returns (bytes memory) {
        string memory id = string.concat(name, ".sol:", name);
        if (vm.isContext(VmSafe.ForgeContext.Coverage)) return vm.getCode(id);
        return vm.getCode(_artifact(name));
    }

    function _artifact(string memory name) internal pure returns (string memory) {
        return string.concat("out/", name, ".sol/", name, ".json");
    }

    function _create(bytes memory initCode) internal returns (address at) {
        assembly ("memory-safe") {
            at := create(0, add(initCode, 0x20), mload(initCode))
        }
        require(at != address(0), "create failed");
    }

    function _deploy() internal {
        deployer = Deployer(_create(_code("Deployer")));
        authority = AccessManager(
            deployer.deploy("AccessManager", abi.encodePacked(_code("AccessManager"), abi.encode(address(this))))
        );
        gateway =
            DevGateway(deployer.deploy("DevGateway", abi.encodePacked(_code("DevGateway"), abi.encode(address(this)))));
        token = AlephToken(
            deployer.deploy(
                "AlephToken", abi.encodePacked(_code("AlephToken"), abi.encode(address(gateway), address(0)))
            )
        );
        nodes = NodeRegistry(_proxy("NodeRegistry"));
        staking = StakingManager(_proxy("StakingManager"));
        jobs = JobManager(_proxy("JobManager"));
        payments = PaymentManager(_proxy("PaymentManager"));
        extension = IPaymentExtension(address(payments));
        deployer.deploy("DrandVerifier", abi.encodePacked(_code("DrandVerifier"), _beaconNetwork()));
        storages = StorageRegistry(_proxy("StorageRegistry"));
        lens = AlephLens(_create(abi.encodePacked(_code("AlephLens"), abi.encode(_peers()))));
        swaps = UniswapAdapter(
            deployer.deploy(
                "UniswapAdapter", abi.encodePacked(_code("UniswapAdapter"), abi.encode(_uniswap(), address(payments)))
            )
        );
        domains = DomainRegistry(_proxy("DomainRegistry"));
        images = ImageMarketplace(_proxy("ImageMarketplace"));
        (storagesAt, imagesAt, slaAt) = (_at("StorageRegistry"), _at("ImageMarketplace"), _at("SLAManager"));
        sla = SLAManager(_proxy("SLAManager"));
    }

    /// @dev Puts a contract that answers every call with a zero where a peer is not deployed.
    function _stub(string memory name) private {
        vm.etch(_at(name), hex"60205ff3");
    }

    /// @dev The test key of protocol/testdata/vectors/drand.json. The randomness of day 20255, the first after START, is its
    /// round 1, and there is one round each day.
    function _beaconNetwork() private view returns (bytes memory) {
        string memory json = vm.readFile("../protocol/testdata/vectors/drand.json");
        return abi.encodePacked(vm.parseJsonBytes(json, ".key"), uint256(20_255 * 1 days + 60), uint256(1 days));
    }

    /// @dev The sequencer's uptime feed, on a network that has one.
    function _uptimeFeed() internal view virtual returns (address) {
        return address(0);
    }

    /// @dev Uniswap's factory, on a network that has one.
    function _uniswap() internal virtual returns (address) {
        return address(0);
    }

    /// @dev An implementation for a set of peers, with its extension if it has one.
    function _build(string memory name, Peers memory p) internal returns (address) {
        bytes memory args = abi.encode(p);
        string memory extension = _extensionOf(name);
        if (bytes(extension).length != 0) {
            args = abi.encodePacked(args, abi.encode(_create(abi.encodePacked(_code(extension), args))));
        }
        return _create(abi.encodePacked(_code(name), args));
    }

    function _extensionOf(string memory name) private pure returns (string memory) {
        bytes32 h = keccak256(bytes(name));
        if (h == keccak256("NodeRegistry")) return "NodeExtension";
        if (h == keccak256("JobManager")) return "JobExtension";
        if (h == keccak256("PaymentManager")) return "PaymentExtension";
        if (h == keccak256("StorageRegistry")) return "StorageExtension";
        if (h == keccak256("SLAManager")) return "SLAExtension";
        return "";
    }

    function _implementation(string memory name) internal returns (address) {
        return _build(name, _peers());
    }

    /// @dev The proxies and what access.json calls them.
    function _proxies() internal pure returns (string[] memory names) {
        names = new string[](8);
        (names[0], names[1], names[2]) = ("NodeRegistry", "StakingManager", "JobManager");
        (names[3], names[4]) = ("PaymentManager", "StorageRegistry");
        (names[5], names[6], names[7]) = ("DomainRegistry", "ImageMarketplace", "SLAManager");
    }

    function _at(string memory name) internal view returns (address) {
        return deployer.addressOf(bytes32(bytes(name)));
    }

    function _peers() internal view returns (Peers memory) {
        return Peers({
            authority: _at("AccessManager"),
            token: _at("AlephToken"),
            nodes: _at("NodeRegistry"),
            staking: _at("StakingManager"),
            jobs: _at("JobManager"),
            payments: _at("PaymentManager"),
            storages: _at("StorageRegistry"),
            domains: _at("DomainRegistry"),
            sla: _at("SLAManager"),
            images: _at("ImageMarketplace"),
            beacon: _at("DrandVerifier"),
            swaps: _at("UniswapAdapter"),
            uptimeFeed: _uptimeFeed()
        });
    }

    function _proxy(string memory name) private returns (address) {
        bytes memory init = abi.encodeWithSignature("initialize()");
        bytes memory code = abi.encodePacked(_code("ERC1967Proxy"), abi.encode(_implementation(name), init));
        return deployer.deploy(bytes32(bytes(name)), code);
    }

    /// @dev Maps every function in access.json that needs a role to it; this contract holds them.
    function _roles() internal {
        string memory json = vm.readFile("access.json");
        string[] memory names = _proxies();
        for (uint256 i; i < names.length; ++i) {
            _restrict(json, "Base", _at(names[i]));
            _restrict(json, names[i], _at(names[i]));
        }
        _restrict(json, "PaymentExtension", address(payments));
        authority.grantRole(Roles.UPGRADER, address(this), 0);
        authority.grantRole(Roles.PARAM, address(this), 0);
        authority.grantRole(Roles.GUARDIAN, address(this), 0);
        authority.grantRole(Roles.LISTER, address(this), 0);
    }

    function _restrict(string memory json, string memory section, address target) private {
        string[] memory signatures = vm.parseJsonKeys(json, string.concat(".", section));
        for (uint256 i; i < signatures.length; ++i) {
            string memory who = vm.parseJsonString(json, string.concat(".", section, "['", signatures[i], "']"));
            (bool found, uint64 role) = _roleOf(who);
            if (!found) continue;
            bytes4[] memory selectors = new bytes4[](1);
            selectors[0] = bytes4(keccak256(bytes(signatures[i])));
            authority.setTargetFunctionRole(target, selectors, role);
        }
    }

    function _roleOf(string memory who) internal pure returns (bool, uint64) {
        bytes32 h = keccak256(bytes(who));
        if (h == keccak256("ADMIN")) return (true, Roles.ADMIN);
        if (h == keccak256("UPGRADER")) return (true, Roles.UPGRADER);
        if (h == keccak256("PARAM")) return (true, Roles.PARAM);
        if (h == keccak256("GUARDIAN")) return (true, Roles.GUARDIAN);
        if (h == keccak256("LISTER")) return (true, Roles.LISTER);
        return (false, 0);
    }

    /* PARTIES */

    function _fund(address who, uint256 amount) internal {
        gateway.mint(token, who, amount);
        vm.prank(who);
        token.approve(address(payments), type(uint256).max);
    }

    function _party(string memory name) internal returns (Party memory p) {
        p.owner = makeAddr(string.concat(name, " owner"));
        (p.signer, p.key) = makeAddrAndKey(name);
    }

    function _register(INodeRegistry.Kind kind, string memory name) internal returns (Party memory p) {
        p = _party(name);
        bytes memory sig = _registerSig(p, kind, bytes(name));
        vm.prank(p.owner);
        p.id = nodes.registerNode(kind, bytes(name), p.signer, keccak256(bytes(name)), 0, 1, sig);
    }

    function _join(INodeRegistry.Kind kind, string memory name) internal returns (Party memory p) {
        p = _register(kind, name);
        bool coordinator = kind == INodeRegistry.Kind.Coordinator;
        _stake(p, coordinator ? staking.totalRequirement() : staking.requirement(kind));
        nodes.activate(p.id);
    }

    function _stake(Party memory p, uint128 amount) internal {
        gateway.mint(token, p.owner, amount);
        vm.startPrank(p.owner);
        token.approve(address(staking), amount);
        staking.stake(p.id, amount);
        vm.stopPrank();
    }

    /// @dev The PaymentManager, for one call by the JobManager.
    function _asJobs() internal returns (PaymentManager) {
        vm.prank(address(jobs));
        return payments;
    }

    /// @dev The same by the StorageRegistry.
    function _asStorages() internal returns (PaymentManager) {
        vm.prank(storagesAt);
        return payments;
    }

    /// @dev The same by the ImageMarketplace.
    function _asImages() internal returns (PaymentManager) {
        vm.prank(imagesAt);
        return payments;
    }

    /// @dev The same by the SLAManager.
    function _asSLA() internal returns (PaymentManager) {
        vm.prank(slaAt);
        return payments;
    }

    /* SIGNATURES */

    function _digest(string memory name, address at, bytes32 structHash) internal view returns (bytes32) {
        bytes32 domain = keccak256(
            abi.encode(
                keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"),
                keccak256(bytes(name)),
                keccak256("1"),
                block.chainid,
                at
            )
        );
        return keccak256(abi.encodePacked("\x19\x01", domain, structHash));
    }

    function _sign(uint256 key, bytes32 digest) internal pure returns (bytes memory) {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(key, digest);
        return abi.encodePacked(r, s, v);
    }

    function _registerSig(Party memory p, INodeRegistry.Kind kind, bytes memory peerId)
        internal
        view
        returns (bytes memory)
    {
        bytes32 typeHash = keccak256("Register(address owner,uint8 kind,bytes32 peerIdHash)");
        bytes32 structHash = keccak256(abi.encode(typeHash, p.owner, kind, keccak256(peerId)));
        return _sign(p.key, _digest("AlephNodes", address(nodes), structHash));
    }

    /* JOBS */

    struct Opening {
        IJobManager.JobOffer offer;
        bytes payerSig;
        IJobManager.Assignment assignment;
        bytes nodeSig;
        bytes coordSigs;
    }

    function _offer(bytes32 spec, uint128 rateQ32) internal returns (IJobManager.JobOffer memory) {
        return IJobManager.JobOffer({
            spec: spec,
            payer: payer,
            token: ALEPH,
            maxRateQ32: rateQ32,
            slaClass: 0,
            imageSeq: 0,
            nodeHint: 0,
            reqHash: 0,
            maxUntil: 0,
            deadline: uint40(block.timestamp) + 600,
            nonce: nextNonce++
        });
    }

    function _assignment(bytes32 spec, uint128 rateQ32, uint32 nodeId)
        internal
        view
        returns (IJobManager.Assignment memory)
    {
        return IJobManager.Assignment({
            spec: spec,
            nodeId: nodeId,
            rateQ32: rateQ32,
            attempt: 0,
            coordId: coordinators[0].id,
            statsEpoch: 0,
            reqHash: 0,
            deadline: uint40(block.timestamp) + 600
        });
    }

    /// @dev Signs what the opening says with everybody's key.
    function _signOpening(Opening memory o, uint256 key, Party memory worker, uint256 signers) internal view {
        o.payerSig = _sign(key, jobs.offerDigest(o.offer));
        o.nodeSig = _sign(worker.key, jobs.acceptDigest(o.assignment));
        bytes32 digest = jobs.assignmentDigest(o.assignment);
        o.coordSigs = "";
        for (uint256 i; i < signers; ++i) {
            o.coordSigs = abi.encodePacked(o.coordSigs, coordinators[i].id, _sign(coordinators[i].key, digest));
        }
    }

    function _opening(bytes32 spec, uint128 rateQ32, Party memory worker) internal returns (Opening memory o) {
        o.offer = _offer(spec, rateQ32);
        o.assignment = _assignment(spec, rateQ32, worker.id);
        _signOpening(o, payerKey, worker, 3);
    }

    function _send(Opening memory o) internal {
        jobs.open(o.offer, o.payerSig, o.assignment, o.nodeSig, o.coordSigs);
    }

    function _open(bytes32 spec, uint128 rateQ32, Party memory worker) internal {
        _send(_opening(spec, rateQ32, worker));
    }

    function _confirm(bytes32 spec, Party memory worker) internal returns (uint256) {
        vm.prank(worker.signer);
        return jobs.confirmRunning(_list(spec));
    }

    function _run(bytes32 spec, uint128 rateQ32, Party memory worker) internal {
        _open(spec, rateQ32, worker);
        assertEq(_confirm(spec, worker), 1);
    }

    function _stop(bytes32 spec) internal {
        vm.prank(payer);
        jobs.stop(spec);
    }

    function _claim(uint64 payee) internal returns (uint256) {
        return payments.claim(payee, ALEPH, _payers());
    }

    function _payers() internal view returns (address[] memory list) {
        list = new address[](1);
        list[0] = payer;
    }

    function _list(bytes32 spec) internal pure returns (bytes32[] memory specs) {
        specs = new bytes32[](1);
        specs[0] = spec;
    }

    function _statusOf(bytes32 spec) internal view returns (IJobManager.Status) {
        return jobs.job(spec).status;
    }
}
