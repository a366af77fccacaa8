// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IAlephLens} from "../../../src/interfaces/IAlephLens.sol";
import {INodeRegistry} from "../../../src/interfaces/INodeRegistry.sol";
import {IPaymentLens} from "../../../src/interfaces/IPaymentLens.sol";
import {ScaleWorld} from "./ScaleWorld.sol";

/// @title ScaleViews
/// @notice What the contracts ask each other, what coordinators and the Governor ask, and the pages of the lens. A view whose
/// arguments are words is called with those of the busy parties; the others by hand.
abstract contract ScaleViews is ScaleWorld {
    function test_scale_views() public {
        _compare("views", address(0), _views);
        _noteMeasured();
        _hashes();
        string[] memory names = _proxies();
        for (uint256 i; i < names.length; ++i) {
            _checkViews(names[i], _at(names[i]));
        }
        _checkViews("PaymentExtension", address(payments));
        _checkViews("AlephGovernor", address(governor));
        _checkViews("AlephLens", address(lens));
    }

    /// @dev Views that read no state: they hash what they are given, whose length is fixed or has a bound.
    function _hashes() private {
        string memory why = "a hash of its arguments";
        string memory offer = "((bytes32,address,uint8,uint128,uint32,uint32,uint32,bytes32,uint40,uint40,uint256))";
        string memory assignment = "((bytes32,uint32,uint128,uint8,uint32,uint32,bytes32,uint40))";
        _excuse(address(jobs), string.concat("offerDigest", offer), why);
        _excuse(address(jobs), string.concat("acceptDigest", assignment), why);
        _excuse(address(jobs), string.concat("assignmentDigest", assignment), why);
        string memory request = "(uint32,bytes32,uint64,bytes32,uint24,uint8,uint8,uint96,uint40)";
        _excuse(address(storages), string.concat("commitDigest(address,", request, ")"), why);
        _excuse(address(storages), "receiptDigest((uint32,bytes32,uint64,uint24,uint24,address))", why);
        _excuse(address(storages), "bitmapRoot(bytes)", why);
        _excuse(
            address(storages), "challengesOf(uint128,uint24,uint64,uint256)", "needs the day's randomness; a hash each"
        );
        _excuse(address(governor), "hashProposal(address[],uint256[],bytes[],bytes32)", why);
        _excuse(address(governor), "getProposalId(address[],uint256[],bytes[],bytes32)", why);
        for (uint256 i; i < 8; ++i) {
            _excuse(_at(_proxies()[i]), "proxiableUUID()", "refuses through a proxy");
        }
        _excuse(address(governor), "proxiableUUID()", "refuses through a proxy");
    }

    function _checkViews(string memory name, address to) private view {
        string[] memory functions = _viewsOf(name);
        for (uint256 i; i < functions.length; ++i) {
            _checkFunction(name, functions[i], to);
        }
    }

    /// @dev The functions of an ABI that do not change state: those that access.json does not have.
    function _viewsOf(string memory name) private view returns (string[] memory list) {
        if (_is(name, "AlephGovernor")) return _functions(name, false);
        string memory access = vm.readFile("access.json");
        list = vm.parseJsonKeys(_artifactOf(name), ".methodIdentifiers");
        uint256 n;
        for (uint256 i; i < list.length; ++i) {
            if (_changes(access, "Base", list[i]) || _changes(access, name, list[i])) continue;
            if (_is(name, "PaymentExtension") && _changes(access, "PaymentManager", list[i])) continue;
            list[n++] = list[i];
        }
        assembly ("memory-safe") {
            mstore(list, n)
        }
    }

    function _changes(string memory access, string memory section, string memory f) private view returns (bool) {
        return vm.keyExistsJson(access, string.concat(".", section, "['", f, "']"));
    }

    function _views() private {
        nodes.snapshotCoordinators();
        payments.pull(payer, ALEPH);
        _all("NodeRegistry", address(nodes), 0);
        _all("StakingManager", address(staking), 0);
        _all("JobManager", address(jobs), _jobOf(0));
        _all("PaymentManager", address(payments), 0);
        _all("PaymentExtension", address(payments), 0);
        _all("StorageRegistry", address(storages), 0);
        _all("DomainRegistry", address(domains), domains.keyOf("n0.example.com"));
        _all("ImageMarketplace", address(images), 0);
        for (uint32 i = sla.lastClass(); i < busyNode.id; ++i) {
            vm.prank(address(timelock));
            _class(60, 0);
        }
        _all("SLAManager", address(sla), 0);
        _all("AlephGovernor", address(governor), 0);
        _all("AlephLens", address(lens), _jobOf(0));
        _byHand();
        _pages();
    }

    function _read(string memory name, address to, bytes memory data) private {
        _call(name, address(this), to, data);
    }

    /// @dev All views of an ABI whose arguments are words.
    function _all(string memory name, address to, bytes32 word) private {
        string[] memory functions = _viewsOf(name);
        for (uint256 i; i < functions.length; ++i) {
            string memory f = functions[i];
            if (_skips(f)) continue;
            string memory inner = vm.split(vm.split(f, "(")[1], ")")[0];
            bytes memory data = abi.encodePacked(bytes4(keccak256(bytes(f))));
            string[] memory types = bytes(inner).length == 0 ? new string[](0) : vm.split(inner, ",");
            for (uint256 j; j < types.length; ++j) {
                data = bytes.concat(data, bytes32(_argument(types[j], f, word)));
            }
            _callIn(string.concat(name, ".", f), _looksUp(f) ? 2 : 0, address(this), to, data);
        }
    }

    /// @dev Those with arguments that are not words, or that refuse.
    function _skips(string memory f) private pure returns (bool) {
        return _has(f, "((") || _has(f, "[") || _has(f, "(bytes)") || _has(f, ",bytes)") || _has(f, "string")
            || _has(f, ",(") || _has(f, "proxiableUUID") || _has(f, "challengesOf") || _has(f, "images(")
            || _has(f, "nodes(uint32,uint32)");
    }

    function _has(string memory f, string memory part) private pure returns (bool) {
        return vm.indexOf(f, part) != type(uint256).max;
    }

    /// @dev Those that look into the history of votes.
    function _looksUp(string memory f) private pure returns (bool) {
        return _has(f, "getPast") || vm.indexOf(f, "getVotes(address,uint256") == 0
            || vm.indexOf(f, "quorum(uint256)") == 0 || vm.indexOf(f, "state(") == 0;
    }

    function _argument(string memory t, string memory f, bytes32 word) private view returns (uint256) {
        bytes32 h = keccak256(bytes(t));
        if (h == keccak256("address")) return uint160(vm.indexOf(f, "get") == 0 ? big : payer);
        if (h == keccak256("bytes32")) return uint256(word);
        if (h == keccak256("uint32")) return busyNode.id;
        if (h == keccak256("uint24")) return _today();
        if (h == keccak256("uint64")) return busyNode.id;
        if (h == keccak256("uint40")) return block.timestamp - 1;
        if (h == keccak256("uint256")) {
            return _has(f, "roposal") || vm.indexOf(f, "state") == 0 || vm.indexOf(f, "hasVoted") == 0
                ? open_.id
                : block.timestamp - 1;
        }
        if (h == keccak256("bytes4")) return 0x01ffc9a7 << 224;
        return 1;
    }

    function _byHand() private {
        address to = address(nodes);
        bytes memory sigs;
        for (uint256 i; i < 3; ++i) {
            sigs = abi.encodePacked(sigs, coordinators[i].id, _sign(coordinators[i].key, "digest"));
        }
        bytes memory sig = _sign(busyNode.key, "digest");
        bytes memory call = abi.encodeCall(
            INodeRegistry.checkAssignment,
            (busyNode.id, coordinators[0].id, 3, [bytes32("digest"), "digest"], sig, sigs)
        );
        _read("checkAssignment", to, call);
        sigs = _coordSigs("digest", 0, 8);
        _read("quorum of coordinators", to, abi.encodeCall(INodeRegistry.quorum, ("digest", sigs)));
        bytes32[] memory proof = new bytes32[](18);
        _read("verifyStat", to, abi.encodeCall(INodeRegistry.verifyStat, (_now(), _leaf(5), 5, proof)));
        _read("keyOf", address(domains), abi.encodeWithSignature("keyOf(string)", "n0.example.com"));
        bytes memory data =
            abi.encodeWithSignature("getVotesWithParams(address,uint256,bytes)", big, block.timestamp - 1, "");
        _callIn("getVotesWithParams", 1, address(this), address(governor), data);
    }

    function _pages() private {
        address to = address(lens);
        uint32[] memory ids = new uint32[](1);
        ids[0] = pool.id;
        _read("delegations", to, abi.encodeCall(IAlephLens.delegations, (_delegator(0), ids)));
        _read("a page of nodes", to, abi.encodeCall(IAlephLens.nodes, (1, 20)));
        _read("a page of images", to, abi.encodeCall(IAlephLens.images, (1, 20)));
        _read("jobs", to, abi.encodeCall(IAlephLens.jobs, (_list(_jobOf(0)))));
        _read("a name", to, abi.encodeCall(IAlephLens.domain, ("n0.example.com")));
        _read("names", to, abi.encodeCall(IAlephLens.domains, (_list(domains.keyOf("n0.example.com")))));
        _read("owed", to, abi.encodeCall(IPaymentLens.owed, (firstOfCrowd, ALEPH, _payers())));
        uint64[] memory payees = new uint64[](1);
        payees[0] = firstOfCrowd;
        _read("solvency", to, abi.encodeCall(IPaymentLens.solvency, (ALEPH, _payers(), payees)));
    }
}
