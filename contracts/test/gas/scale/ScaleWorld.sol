// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IBase} from "../../../src/interfaces/IBase.sol";
import {IImageMarketplace} from "../../../src/interfaces/IImageMarketplace.sol";
import {IJobManager} from "../../../src/interfaces/IJobManager.sol";
import {INodeRegistry} from "../../../src/interfaces/INodeRegistry.sol";
import {ISLAManager} from "../../../src/interfaces/ISLAManager.sol";
import {IStakingManager} from "../../../src/interfaces/IStakingManager.sol";
import {IStorageWords} from "../../../src/interfaces/IStorageWords.sol";
import {Pausing} from "../../../src/libraries/Pausing.sol";
import {DomainSuite} from "../../utils/DomainSuite.sol";
import {GovernanceSuite} from "../../utils/GovernanceSuite.sol";
import {ImageSuite} from "../../utils/ImageSuite.sol";
import {Permit2Suite} from "../../utils/Permit2Suite.sol";
import {PlacementSuite} from "../../utils/PlacementSuite.sol";
import {QuorumSuite} from "../../utils/QuorumSuite.sol";
import {StorageSuite} from "../../utils/StorageSuite.sol";
import {Suite} from "../../utils/Suite.sol";
import {UniswapSuite} from "../../utils/UniswapSuite.sol";
import {UptimeFeed} from "../../utils/UptimeFeed.sol";

/// @title ScaleWorld
/// @notice One network with few of everything and, later, with 100,000 of everything, made by the contracts' own calls.
/// What is measured is measured on the same parties in both: one node with every other job, one payer with the rest, one
/// pool with all delegators, one store with all objects, one owner with all names, one accused node with all cases.
/// @dev Needs --isolate (every call of the test itself is a transaction) and a gas limit above any block's. What is called
/// from within a call is not isolated, so the populations are made in a few calls of this contract by itself. The state of
/// {setUp} is what a test starts with: there the large network costs nothing more per transaction.
abstract contract ScaleWorld is
    DomainSuite,
    ImageSuite,
    PlacementSuite,
    StorageSuite,
    GovernanceSuite,
    Permit2Suite,
    UniswapSuite
{
    /* TYPES */

    struct Sample {
        string name;
        address to;
        bytes4 selector;
        uint256 gas;
        uint256 lookups;
    }

    /* CONSTANTS */

    /// @dev How many there are of each before. Enough to be past all that is different for the first few of something.
    uint256 internal constant FEW = 32;

    /// @dev One job's rate in the crowd.
    uint128 internal constant RATE = uint128(1e12 * Q);

    /// @dev The populations are made in calls of so many.
    uint256 private constant _CHUNK = 200;

    /// @dev What a lookup among checkpoints costs for each halving of their number: a cold read and some arithmetic.
    uint256 private constant _HALVING = 2_400;

    uint256 internal many;

    Sample[] internal samples;
    mapping(address to => mapping(bytes4 selector => bool)) private _measured;
    mapping(address to => mapping(bytes4 selector => bool)) private _excused;
    uint256 private _small;
    address private _driven;

    // The busy ones.
    Party internal pool;
    Party internal busyNode;
    Party internal busyStore;
    Party internal accused;
    uint32 internal busyImage;
    address internal landlord = makeAddr("landlord");
    address internal crowd = makeAddr("crowd");
    address internal watcher = makeAddr("watcher");
    Proposal internal open_;
    uint32 internal firstOfCrowd;
    uint256 internal born;

    /* SETUP */

    function setUp() public virtual override(ImageSuite, QuorumSuite, Suite, UniswapSuite) {
        many = vm.envOr("SCALE", uint256(100_000));
        vm.warp(START);
        feed = new UptimeFeed();
        feed.push(0, block.timestamp - 30 days);
        super.setUp();
        vm.clearMockedCalls();
        _deployPermit2();
        (pool, busyNode, busyStore, accused) = (workers[0], workers[1], workers[2], workers[3]);
        _stake(pool, 100_000 ether);
        _stake(accused, 1_000_000 ether);
        busyImage = _publish(_royalty(500));
        images.setUsdUnit(ALEPH, 1e9);
        gateway.mint(token, crowd, 1e28);
        vm.prank(crowd);
        token.approve(address(staking), type(uint256).max);
        _bond(publisher, 1e26);
        _govern();
        open_ = _propose(address(staking), abi.encodeCall(IStakingManager.setUnbonding, (10 days)), "scale");
        (firstOfCrowd, born) = (nodes.lastNodeId() + 1, block.timestamp);
        this.populate(0, FEW);
        _small = vm.snapshotState();
        this.populate(FEW, many);
        vm.warp(born + 2 days + 2 hours);
    }

    function _code(string memory name) internal view override returns (bytes memory) {
        return vm.getCode(string.concat("out/release/", name, ".sol/", name, ".json"));
    }

    function _uptimeFeed() internal view override returns (address) {
        return address(feed);
    }

    function _uniswap() internal override(Suite, UniswapSuite) returns (address) {
        return UniswapSuite._uniswap();
    }

    /* POPULATIONS */

    /// @dev Makes those with the numbers from `from` to `to` - 1. The times are the same whatever their number.
    function populate(uint256 from, uint256 to) external {
        vm.warp(born + 1 + from);
        _each(this.makeDelegators, from, to);
        vm.warp(born + 36 hours);
        _each(this.makeNodes, from, to);
        _each(this.makeJobs, from, to);
        _each(this.makeObjects, from, to);
        nodes.snapshotCoordinators();
        _each(this.makeDomains, from, to);
        _each(this.makeImages, from, to);
        _each(this.makeCases, from, to);
        vm.warp(born + 2 days + 1 hours);
        _each(this.castBallots, from, to);
    }

    /// @dev Each call begins with an empty memory.
    function _each(function(uint256, uint256) external make, uint256 from, uint256 to) private {
        for (; from < to; from += _CHUNK) {
            make(from, from + _CHUNK < to ? from + _CHUNK : to);
        }
    }

    /// @dev Delegators of one pool, of whom every other lets `big` vote. One is counted each second, so that there are as
    /// many checkpoints as delegators, and each has something that is leaving.
    function makeDelegators(uint256 from, uint256 to) external {
        uint32[] memory ids = new uint32[](1);
        ids[0] = pool.id;
        for (uint256 i = from; i < to; ++i) {
            address d = _delegator(i);
            gateway.mint(token, d, 2 ether);
            vm.startPrank(d);
            token.approve(address(staking), 2 ether);
            staking.delegate(pool.id, 2 ether, 0);
            staking.undelegate(pool.id, 1 ether, 0);
            if (i % 2 == 0) staking.delegate(big);
            vm.stopPrank();
            staking.syncVotes(d, ids);
            vm.warp(block.timestamp + 1);
        }
    }

    function makeNodes(uint256 from, uint256 to) external {
        uint128 need = staking.requirement(INodeRegistry.Kind.Compute);
        for (uint256 i = from; i < to; ++i) {
            Party memory p = _crowdNode(i);
            bytes memory peerId = abi.encode(i);
            bytes memory sig = _registerSig(p, INodeRegistry.Kind.Compute, peerId);
            vm.startPrank(crowd);
            uint32 id =
                nodes.registerNode(INodeRegistry.Kind.Compute, peerId, p.signer, bytes32("meta"), 0, uint16(i), sig);
            staking.stake(id, need);
            vm.stopPrank();
            nodes.activate(id);
            require(id == p.id, "not the next id");
        }
    }

    /// @dev Every other job is of one payer, each on a node of its own; the rest are of a payer each, all on one node and
    /// with one image.
    function makeJobs(uint256 from, uint256 to) external {
        for (uint256 i = from; i < to; ++i) {
            if (i % 2 == 0) _crowdJob(_jobOf(i), payer, payerKey, _crowdNode(i), 0, i);
            else _crowdJob(_jobOf(i), _newPayer(i), _payerKey(i), busyNode, busyImage, i);
        }
    }

    function _newPayer(uint256 i) private returns (address who) {
        who = vm.addr(_payerKey(i));
        _fund(who, 1 ether);
    }

    function _crowdJob(bytes32 spec, address by, uint256 key, Party memory node, uint32 image, uint256 nonce) private {
        Opening memory o;
        o.offer = IJobManager.JobOffer(
            spec, by, ALEPH, 2 * RATE, 0, image, node.id, 0, 0, uint40(block.timestamp) + 600, 1e6 + nonce
        );
        o.assignment = _assignment(spec, RATE, node.id);
        o.assignment.coordId = 0;
        o.payerSig = _sign(key, jobs.offerDigest(o.offer));
        o.nodeSig = _sign(node.key, jobs.acceptDigest(o.assignment));
        jobs.openSelf(o.offer, o.payerSig, o.assignment, o.nodeSig);
        vm.prank(node.signer);
        require(jobs.confirmRunning(_list(spec)) == 1, "not confirmed");
    }

    /// @dev Objects of one payer in one store, every other with rent.
    function makeObjects(uint256 from, uint256 to) external {
        for (uint256 i = from; i < to; ++i) {
            IStorageWords.Request memory r = IStorageWords.Request({
                nodeId: busyStore.id,
                root: keccak256(abi.encode("object", i)),
                size: 5000,
                itemHash: sha256(abi.encode(i)),
                untilDay: _today() + 100,
                k: 2,
                token: ALEPH,
                rateQ32: i % 2 == 0 ? RENT : 0,
                deadline: uint40(block.timestamp) + 600
            });
            bytes memory sig = _requestSig(r, payer, busyStore.key);
            vm.prank(payer);
            storages.commit(r, sig);
        }
    }

    /// @dev Names that one account has asked for; it owns one in ten, for each of which five coordinators sign.
    function makeDomains(uint256 from, uint256 to) external {
        for (uint256 i = from; i < to; ++i) {
            string memory name = string.concat("n", vm.toString(i), ".example.com");
            if (i % 10 == 0) _give(landlord, name);
            else _ask(landlord, name);
        }
    }

    function makeImages(uint256 from, uint256 to) external {
        IImageMarketplace.Listing memory l = _royalty(500);
        for (uint256 i = from; i < to; ++i) {
            _publish(l);
        }
    }

    /// @dev Cases against one node, which are all reported by the same and harmed the same.
    function makeCases(uint256 from, uint256 to) external {
        for (uint256 i = from; i < to; ++i) {
            vm.prank(address(nodes));
            sla.recordViolation(ISLAManager.Kind.StorageMiss, accused.id, bytes32(i), 0, 0, watcher, payer);
        }
    }

    /// @dev Ballots about one proposal.
    function castBallots(uint256 from, uint256 to) external {
        for (uint256 i = from; i < to; ++i) {
            vm.prank(_delegator(i));
            governor.castVote(open_.id, uint8(i % 3));
        }
    }

    /* THE CROWD */

    function _delegator(uint256 i) internal pure returns (address) {
        return address(uint160(uint256(keccak256(abi.encode("delegator", i)))));
    }

    function _crowdNode(uint256 i) internal view returns (Party memory) {
        uint256 key = uint256(keccak256(abi.encode("node", i))) >> 1;
        return Party(uint32(firstOfCrowd + i), crowd, vm.addr(key), key);
    }

    function _payerKey(uint256 i) internal pure returns (uint256) {
        return uint256(keccak256(abi.encode("payer", i))) >> 1;
    }

    function _jobOf(uint256 i) internal pure returns (bytes32) {
        return keccak256(abi.encode("job", i));
    }

    /* MEASURING */

    /// @dev Makes a call and notes what it takes as a transaction.
    function _call(string memory name, address from, address to, bytes memory data) internal returns (bytes memory) {
        return _callFor(name, from, to, data, 0, 0);
    }

    /// @dev The same of the contract that is driven.
    function _do(string memory name, address from, bytes memory data) internal returns (bytes memory) {
        return _call(name, from, _driven, data);
    }

    /// @dev The same for one that looks into the history of votes so many times: that takes a read more whenever the
    /// history doubles.
    function _callIn(string memory name, uint256 lookups, address from, address to, bytes memory data)
        internal
        returns (bytes memory)
    {
        return _callFor(name, from, to, data, 0, lookups);
    }

    function _callFor(string memory name, address from, address to, bytes memory data, uint256 value, uint256 lookups)
        internal
        returns (bytes memory)
    {
        if (from != address(this)) vm.prank(from);
        (bool ok, bytes memory out) = to.call{value: value}(data);
        if (!ok) {
            emit log_named_string("failed", name);
            assembly ("memory-safe") {
                revert(add(out, 0x20), mload(out))
            }
        }
        samples.push(Sample(name, to, bytes4(data), vm.lastCallGas().gasTotalUsed, lookups));
        return out;
    }

    /// @dev What every contract has: pauses and upgrades.
    function _upkeep(string memory name, address to) internal {
        (address guards, address decides) = (address(guardian), address(timelock));
        _call("pause", guards, to, abi.encodeCall(IBase.pause, (Pausing.ENTRY, 1 hours)));
        _call("unpause", guards, to, abi.encodeCall(IBase.unpause, ()));
        _call("renewPause", decides, to, abi.encodeCall(IBase.renewPause, ()));
        address code = _implementation(name);
        _call("announceUpgrade", decides, to, abi.encodeCall(IBase.announceUpgrade, (code)));
        _call("cancelUpgrade", guards, to, abi.encodeCall(IBase.cancelUpgrade, ()));
        vm.prank(decides);
        IBase(to).announceUpgrade(code);
        skip(7 days);
        _call("upgradeToAndCall", decides, to, abi.encodeWithSignature("upgradeToAndCall(address,bytes)", code, ""));
    }

    /// @dev A contract is driven in both networks, and nothing of it is left out.
    function _scale(string memory name, address to, function() internal drive) internal {
        _compare(name, to, drive);
        _excuse(to, "initialize()", "once, when the proxy is made");
        _checkAll(name, to);
        _checkAll("Base", to);
    }

    /// @dev A function that is not measured, and why.
    function _excuse(address to, string memory signature, string memory) internal {
        _excused[to][bytes4(keccak256(bytes(signature)))] = true;
    }

    /// @dev Drives a contract in the large network and then in the small one, and compares.
    function _compare(string memory name, address to, function() internal drive) internal {
        _driven = to;
        drive();
        Sample[] memory large = samples;
        vm.revertToState(_small);
        _driven = to;
        vm.warp(born + 2 days + 2 hours);
        drive();
        assertEq(samples.length, large.length, "the same calls");
        string memory rows = "";
        for (uint256 i; i < large.length; ++i) {
            Sample memory s = samples[i];
            assertEq(s.name, large[i].name);
            uint256 most = s.gas + s.gas / 50 + s.lookups * _HALVING * _log2(many);
            assertLe(large[i].gas, most, string.concat(name, ": ", s.name));
            rows = string.concat(rows, i == 0 ? "" : ",\n", _row(s, large[i].gas));
        }
        vm.createDir("out/scale", true);
        string memory head = string.concat('{"many": ', vm.toString(many), ', "paths": {\n');
        vm.writeFile(string.concat("out/scale/", name, ".json"), string.concat(head, rows, "\n}}\n"));
    }

    function _row(Sample memory s, uint256 large) private pure returns (string memory) {
        string memory gas = string.concat('"few": ', vm.toString(s.gas), ', "many": ', vm.toString(large));
        return string.concat('  "', s.name, '": {', gas, ', "lookups": ', vm.toString(s.lookups), "}");
    }

    function _log2(uint256 n) private pure returns (uint256 halvings) {
        while (1 << halvings < n) ++halvings;
    }

    /// @dev Every function of an ABI that changes state is measured or excused. For contracts that access.json does not have.
    function _checkArtifact(string memory name, address to) internal {
        _noteMeasured();
        string[] memory functions = _functions(name, true);
        for (uint256 i; i < functions.length; ++i) {
            _checkFunction(name, functions[i], to);
        }
    }

    /// @dev The functions of an ABI that change state, or those that do not.
    function _functions(string memory name, bool changing) internal view returns (string[] memory list) {
        string memory json = _artifactOf(name);
        string[] memory all = vm.parseJsonKeys(json, ".methodIdentifiers");
        list = new string[](all.length);
        uint256 n;
        for (uint256 i;; ++i) {
            string memory at = string.concat(".abi[", vm.toString(i), "]");
            if (!vm.keyExistsJson(json, at)) break;
            if (!_is(vm.parseJsonString(json, string.concat(at, ".type")), "function")) continue;
            string memory mutability = vm.parseJsonString(json, string.concat(at, ".stateMutability"));
            if ((_is(mutability, "view") || _is(mutability, "pure")) == changing) continue;
            string memory start = string.concat(vm.parseJsonString(json, string.concat(at, ".name")), "(");
            for (uint256 j; j < all.length; ++j) {
                if (vm.indexOf(all[j], start) != 0) continue;
                list[n++] = all[j];
                // Not again for another of the same name.
                all[j] = "";
            }
        }
        assembly ("memory-safe") {
            mstore(list, n)
        }
    }

    function _artifactOf(string memory name) internal view returns (string memory) {
        return vm.readFile(string.concat("out/release/", name, ".sol/", name, ".json"));
    }

    function _is(string memory a, string memory b) internal pure returns (bool) {
        return keccak256(bytes(a)) == keccak256(bytes(b));
    }

    function _checkFunction(string memory section, string memory signature, address to) internal view {
        bytes4 selector = bytes4(keccak256(bytes(signature)));
        assertTrue(_measured[to][selector] || _excused[to][selector], string.concat(section, ".", signature));
    }

    function _noteMeasured() internal {
        for (uint256 i; i < samples.length; ++i) {
            _measured[samples[i].to][samples[i].selector] = true;
        }
    }

    /// @dev Every function of a section of access.json is measured or excused.
    function _checkAll(string memory section, address to) internal {
        _noteMeasured();
        string[] memory functions = vm.parseJsonKeys(vm.readFile("access.json"), string.concat(".", section));
        for (uint256 i; i < functions.length; ++i) {
            _checkFunction(section, functions[i], to);
        }
    }
}
