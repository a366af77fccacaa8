// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {JobManager} from "../src/JobManager.sol";
import {NodeRegistry} from "../src/NodeRegistry.sol";
import {Peers} from "../src/Peers.sol";
import {IDomainRegistry} from "../src/interfaces/IDomainRegistry.sol";
import {IImageMarketplace} from "../src/interfaces/IImageMarketplace.sol";
import {IJobManager} from "../src/interfaces/IJobManager.sol";
import {INodeRegistry} from "../src/interfaces/INodeRegistry.sol";
import {IStorageWords} from "../src/interfaces/IStorageWords.sol";
import {Suite} from "./utils/Suite.sol";
import {ERC1967Proxy} from "@openzeppelin/contracts/proxy/ERC1967/ERC1967Proxy.sol";

/// @title Vectors
/// @notice The EIP-712 cases that Go and viem check, too, of every type in eip712.json: protocol/testdata/vectors/eip712.json
/// is what the contracts compute. With WRITE_VECTORS=true the file is written, else it is compared.
contract VectorsTest is Suite {
    string internal constant FILE = "../protocol/testdata/vectors/eip712.json";
    uint256 internal constant KEY = 0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80;
    address internal constant JOBS_AT = 0x5FbDB2315678afecb367f032d93F642f64180aa3;
    address internal constant NODES_AT = 0xe7f1725E7734CE288F8367e1Bb143E90bb3F0512;
    address internal constant SLA_AT = 0x9fE46736679d2D9a65F0992F2272dE9f3c7fa6e0;
    address internal constant STORAGES_AT = 0xCf7Ed3AccA5a467e9e704C703E8D87F634fB0Fc9;
    address internal constant DOMAINS_AT = 0xDc64a140Aa3E981100a9becA4E685f962f0cF6C9;
    address internal constant IMAGES_AT = 0x5FC8d32690cc91D4c39d9d3abcBD16989F875707;
    address internal constant STAKING_AT = 0x0165878A594ca255338adfa4d48449f69242Eb8F;
    bytes32 internal constant SPEC = sha256("instance");
    bytes32 internal constant NEEDS = keccak256("needs");
    bytes32 internal constant ROOT = keccak256("root");
    bytes32 internal constant SEED = keccak256("seed");
    address internal constant ALICE = address(0xA11CE);
    uint128 internal constant OBJECT = 5 << 96 | 258;
    uint40 internal constant DEADLINE = 1_750_000_600;

    function setUp() public override {
        super.setUp();
        // At addresses of their own, so that the vectors do not move with the deployment.
        Peers memory p = _peers();
        (p.jobs, p.nodes) = (JOBS_AT, NODES_AT);
        vm.etch(JOBS_AT, _build("JobManager", p).code);
        vm.etch(NODES_AT, _build("NodeRegistry", p).code);
        bytes32 slot = 0x360894a13ba1a3210667c828492db98dca3e2076cc3735a920a3ca505d382bbc;
        vm.store(JOBS_AT, slot, vm.load(address(jobs), slot));
        vm.store(NODES_AT, slot, vm.load(address(nodes), slot));
    }

    function test_vectors_areWhatTheContractsCompute() public {
        string memory json = _cases();
        if (vm.envOr("WRITE_VECTORS", false)) vm.writeFile(FILE, json);
        assertEq(vm.readFile(FILE), json, "vectors differ: run `make contracts-vectors`");
    }

    function test_vectors_digestsAreTheContracts() public view {
        IJobManager j = IJobManager(JOBS_AT);
        assertEq(_digest("AlephJobs", JOBS_AT, _offerHash()), j.offerDigest(_fixedOffer()));
        assertEq(_digest("AlephJobs", JOBS_AT, _assignmentHash("Accept")), j.acceptDigest(_fixedAssignment()));
        assertEq(_digest("AlephJobs", JOBS_AT, _assignmentHash("Assignment")), j.assignmentDigest(_fixedAssignment()));
        assertEq(_digest("AlephJobs", JOBS_AT, _stopHash()), j.stopDigest(SPEC, DEADLINE));
    }

    /// @dev Here the contracts are the proxies of the suite: only the domain is another.
    function test_vectors_digestsOfOtherContracts() public {
        bytes32 heartbeat = nodes.heartbeatDigest(486_111, ROOT, SEED);
        assertEq(_digest("AlephNodes", address(nodes), _heartbeatHash()), heartbeat);
        address at = address(storages);
        assertEq(_digest("AlephStorage", at, _requestHash()), storages.commitDigest(vm.addr(KEY), _fixedRequest()));
        assertEq(_digest("AlephStorage", at, _extensionHash()), storages.extendDigest(OBJECT, 20_300));
        assertEq(_digest("AlephStorage", at, _repairHash()), storages.repairDigest(OBJECT, 6));
        assertEq(_digest("AlephStorage", at, _receiptHash()), storages.receiptDigest(_fixedReceipt()));
        // No beacon is published, so the contract's seed of the day is zero.
        assertEq(_digest("AlephStorage", at, _dayHash(0)), storages.attestationDigest(20_255, ROOT));
        bytes32 dns = domains.attestationDigest(ROOT, ALICE, 7, IDomainRegistry.Method(2), DEADLINE);
        assertEq(_digest("AlephDomains", address(domains), _dnsHash()), dns);
        bytes32 revocation = domains.revocationDigest(ROOT, 7, SEED, NEEDS);
        assertEq(_digest("AlephDomains", address(domains), _revocationHash()), revocation);
    }

    function test_vectors_takedownIsTheMarketplaces() public {
        gateway.mint(token, ALICE, 100_000 ether);
        IImageMarketplace.Listing memory l;
        (l.imageId, l.manifestHash) = (SPEC, ROOT);
        vm.startPrank(ALICE);
        token.approve(address(images), type(uint256).max);
        assertEq(images.publish(l), 1);
        vm.stopPrank();
        assertEq(_digest("AlephImages", address(images), _takedownHash()), images.verdictDigest(1, NEEDS));
    }

    function test_vectors_delegationIsAccepted() public {
        bytes32 digest = _digest("AlephStaking", address(staking), _delegationHash());
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(KEY, digest);
        staking.delegateBySig(ALICE, 0, DEADLINE, v, r, s);
        assertEq(staking.delegates(vm.addr(KEY)), ALICE);
    }

    /// @dev Every type of eip712.json is the type of a case in its domain, and no case has another type.
    function test_vectors_haveEveryType() public view {
        string memory vectors = _cases();
        bytes32[] memory cases = new bytes32[](256);
        uint256 n;
        for (;; ++n) {
            string memory p = string.concat("$[", vm.toString(n), "]");
            if (!vm.keyExistsJson(vectors, p)) break;
            cases[n] = keccak256(
                abi.encode(
                    vm.parseJsonString(vectors, string.concat(p, ".domain.name")),
                    vm.parseJsonString(vectors, string.concat(p, ".encodeType"))
                )
            );
        }
        string memory all = vm.readFile("eip712.json");
        string[] memory names = vm.parseJsonKeys(all, "$");
        uint256 types;
        for (uint256 i; i < names.length; ++i) {
            string[] memory list = vm.parseJsonStringArray(all, string.concat("$.", names[i]));
            for (uint256 j; j < list.length; ++j) {
                bytes32 wanted = keccak256(abi.encode(names[i], list[j]));
                uint256 k;
                while (k < n && cases[k] != wanted) ++k;
                assertLt(k, n, string.concat("no case of ", names[i], ": ", list[j]));
                ++types;
            }
        }
        assertEq(n, types, "one case of each type");
    }

    function test_vectors_registerIsAccepted() public {
        address owner = address(0xA11CE);
        bytes memory peerId = hex"002408011220aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
        bytes memory sig = _sign(KEY, _digest("AlephNodes", NODES_AT, _registerHash(owner, peerId)));
        vm.prank(owner);
        uint32 id =
            NodeRegistry(NODES_AT).registerNode(INodeRegistry.Kind.Compute, peerId, vm.addr(KEY), "meta", 0, 0, sig);
        sig = _sign(0xB0B, _digest("AlephNodes", NODES_AT, _setSignerHash(id, owner)));
        vm.prank(owner);
        NodeRegistry(NODES_AT).setSigner(id, vm.addr(0xB0B), sig);
    }

    /* CASES */

    function _cases() private pure returns (string memory) {
        string memory json = string.concat("[\n", _jobCases(), ",\n", _slaCases(), ",\n", _nodeCases(), ",\n");
        return string.concat(json, _storageCases(), ",\n", _otherCases(), "\n]\n");
    }

    function _jobCases() private pure returns (string memory) {
        string memory offer = string.concat(
            '{"spec": "',
            vm.toString(SPEC),
            '", "payer": "',
            vm.toString(vm.addr(KEY)),
            '", "token": "1", "maxRateQ32": "4294967296000000000000", "slaClass": "3", ',
            '"imageSeq": "7", "nodeHint": "5", "reqHash": "',
            vm.toString(NEEDS),
            '", "maxUntil": "1760000000", "deadline": "1750000600", "nonce": "258"}'
        );
        string memory assignment = string.concat(
            '{"spec": "',
            vm.toString(SPEC),
            '", "nodeId": "5", "rateQ32": "4294967296000000000", "attempt": "0", "coordId": "1", ',
            '"statsEpoch": "486111", "reqHash": "',
            vm.toString(NEEDS),
            '", "deadline": "1750000600"}'
        );
        string memory stop = string.concat('{"spec": "', vm.toString(SPEC), '", "deadline": "1750000600"}');
        return string.concat(
            _case("AlephJobs", JOBS_AT, "JobOffer", _OFFER, offer, _offerHash()),
            ",\n",
            _case("AlephJobs", JOBS_AT, "Accept", _ACCEPT, assignment, _assignmentHash("Accept")),
            ",\n",
            _case("AlephJobs", JOBS_AT, "Assignment", _ASSIGNMENT, assignment, _assignmentHash("Assignment")),
            ",\n",
            _case("AlephJobs", JOBS_AT, "Stop", _STOP, stop, _stopHash()),
            ",\n",
            _laterCases()
        );
    }

    function _laterCases() private pure returns (string memory) {
        string memory spec = string.concat('{"spec": "', vm.toString(SPEC), '", "nodeId": "5", "attempt": "2"');
        string memory resize = string.concat(
            '{"offer": "', vm.toString(_offerHash()), '", "nodeId": "5", "rateQ32": "4294967296000000000"}'
        );
        string memory decline = string.concat(spec, ', "reason": "17"}');
        string memory silence = string.concat(spec, "}");
        return string.concat(
            _case("AlephJobs", JOBS_AT, "Resize", _RESIZE, resize, _resizeHash()),
            ",\n",
            _case("AlephJobs", JOBS_AT, "Decline", _DECLINE, decline, _declineHash()),
            ",\n",
            _case("AlephJobs", JOBS_AT, "Silence", _SILENCE, silence, _silenceHash())
        );
    }

    function _slaCases() private pure returns (string memory) {
        string memory accusation = string.concat(
            '{"kind": "10", "nodeId": "5", "ref": "',
            vm.toString(SPEC),
            '", "occurrence": "2", "severity": "1", "evidence": "',
            vm.toString(NEEDS),
            '"}'
        );
        string memory verdict = string.concat('{"caseId": "', vm.toString(NEEDS), '", "guilty": true}');
        return string.concat(
            _case("AlephSLA", SLA_AT, "Accusation", _ACCUSATION, accusation, _accusationHash()),
            ",\n",
            _case("AlephSLA", SLA_AT, "Verdict", _VERDICT, verdict, _verdictHash())
        );
    }

    function _nodeCases() private pure returns (string memory) {
        address owner = address(0xA11CE);
        bytes memory peerId = hex"002408011220aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
        string memory register = string.concat(
            '{"owner": "', vm.toString(owner), '", "kind": "2", "peerIdHash": "', vm.toString(keccak256(peerId)), '"}'
        );
        string memory setSigner = string.concat('{"nodeId": "5", "owner": "', vm.toString(owner), '"}');
        return string.concat(
            _case("AlephNodes", NODES_AT, "Register", _REGISTER, register, _registerHash(owner, peerId)),
            ",\n",
            _case("AlephNodes", NODES_AT, "SetSigner", _SET_SIGNER, setSigner, _setSignerHash(5, owner)),
            ",\n",
            _heartbeatCase()
        );
    }

    function _heartbeatCase() private pure returns (string memory) {
        string memory message =
            string.concat(_number("epoch", 486_111), _word("statsRoot", ROOT), _word("bitmapHash", SEED));
        return _case("AlephNodes", NODES_AT, "Heartbeat", _HEARTBEAT, _object(message), _heartbeatHash());
    }

    function _storageCases() private pure returns (string memory) {
        string memory request = string.concat(
            _account("payer", vm.addr(KEY)), _number("nodeId", 5), _word("root", ROOT), _number("size", 1000)
        );
        request = string.concat(request, _word("itemHash", SPEC), _number("untilDay", 20_300), _number("k", 3));
        request =
            string.concat(request, _number("token", 1), _number("rateQ32", 1 << 40), _number("deadline", DEADLINE));
        string memory extension = string.concat(_number("id", OBJECT), _number("untilDay", 20_300));
        string memory repair = string.concat(_number("id", OBJECT), _number("nodeId", 6));
        string memory receipt = string.concat(_number("nodeId", 5), _word("root", ROOT), _number("leaves", 9));
        receipt =
            string.concat(receipt, _number("sinceDay", 20_255), _number("untilDay", 20_300), _account("holder", ALICE));
        string memory day = string.concat(_number("day", 20_255), _word("seed", SEED), _word("bitmapRoot", ROOT));
        string[5] memory cases = [
            _case("AlephStorage", STORAGES_AT, "StoreRequest", _REQUEST, _object(request), _requestHash()),
            _case("AlephStorage", STORAGES_AT, "StoreExtension", _EXTENSION, _object(extension), _extensionHash()),
            _case("AlephStorage", STORAGES_AT, "StoreRepair", _REPAIR, _object(repair), _repairHash()),
            _case("AlephStorage", STORAGES_AT, "StorageReceipt", _RECEIPT, _object(receipt), _receiptHash()),
            _case("AlephStorage", STORAGES_AT, "DayAttestation", _DAY, _object(day), _dayHash(SEED))
        ];
        return string.concat(cases[0], ",\n", cases[1], ",\n", cases[2], ",\n", cases[3], ",\n", cases[4]);
    }

    function _otherCases() private pure returns (string memory) {
        string memory dns = string.concat(_word("key", ROOT), _account("owner", ALICE), _number("nonce", 7));
        dns = string.concat(dns, _number("method", 2), _number("seenAt", DEADLINE));
        string memory revocation = string.concat(_word("key", ROOT), _number("nonce", 7));
        revocation = string.concat(revocation, _word("spkiHash", SEED), _word("evidence", NEEDS));
        string memory takedown = string.concat(_number("seq", 1), _word("imageId", SPEC), _word("reason", NEEDS));
        string memory delegation =
            string.concat(_account("delegatee", ALICE), _number("nonce", 0), _number("expiry", DEADLINE));
        string[4] memory cases = [
            _case("AlephDomains", DOMAINS_AT, "DnsAttestation", _DNS, _object(dns), _dnsHash()),
            _case("AlephDomains", DOMAINS_AT, "Revocation", _REVOCATION, _object(revocation), _revocationHash()),
            _case("AlephImages", IMAGES_AT, "Takedown", _TAKEDOWN, _object(takedown), _takedownHash()),
            _case("AlephStaking", STAKING_AT, "Delegation", _DELEGATION, _object(delegation), _delegationHash())
        ];
        return string.concat(cases[0], ",\n", cases[1], ",\n", cases[2], ",\n", cases[3]);
    }

    /// @dev An object of members that each begin with a comma.
    function _object(string memory members) private pure returns (string memory) {
        bytes memory text = bytes(members);
        bytes memory out = new bytes(text.length - 2);
        for (uint256 i; i < out.length; ++i) {
            out[i] = text[i + 2];
        }
        return string.concat("{", string(out), "}");
    }

    function _number(string memory name, uint256 value) private pure returns (string memory) {
        return string.concat(', "', name, '": "', vm.toString(value), '"');
    }

    function _word(string memory name, bytes32 value) private pure returns (string memory) {
        return string.concat(', "', name, '": "', vm.toString(value), '"');
    }

    function _account(string memory name, address value) private pure returns (string memory) {
        return string.concat(', "', name, '": "', vm.toString(value), '"');
    }

    function _case(
        string memory domain,
        address at,
        string memory name,
        string memory types,
        string memory message,
        bytes32 structHash
    ) private pure returns (string memory) {
        bytes32 digest = keccak256(abi.encodePacked("\x19\x01", _separator(domain, at), structHash));
        string memory head = string.concat(
            '  {\n    "domain": {"name": "',
            domain,
            '", "version": "1", "chainId": 31337, "verifyingContract": "',
            vm.toString(at),
            '"},\n    "primaryType": "',
            name,
            '",\n    "encodeType": "',
            types
        );
        string memory body = string.concat(
            '",\n    "typeHash": "',
            vm.toString(keccak256(bytes(types))),
            '",\n    "message": ',
            message,
            ',\n    "structHash": "',
            vm.toString(structHash),
            '",\n    "digest": "',
            vm.toString(digest)
        );
        string memory tail = string.concat(
            '",\n    "privateKey": "',
            vm.toString(bytes32(KEY)),
            '",\n    "signer": "',
            vm.toString(vm.addr(KEY)),
            '",\n    "signature": "',
            vm.toString(_sign(KEY, digest)),
            '"\n  }'
        );
        return string.concat(head, body, tail);
    }

    /* HASHES, written out apart from the contracts */

    string private constant _OFFER =
        "JobOffer(bytes32 spec,address payer,uint8 token,uint128 maxRateQ32,uint32 slaClass,uint32 imageSeq,uint32 nodeHint,bytes32 reqHash,uint40 maxUntil,uint40 deadline,uint256 nonce)";
    string private constant _ACCEPT =
        "Accept(bytes32 spec,uint32 nodeId,uint128 rateQ32,uint8 attempt,uint32 coordId,uint32 statsEpoch,bytes32 reqHash,uint40 deadline)";
    string private constant _ASSIGNMENT =
        "Assignment(bytes32 spec,uint32 nodeId,uint128 rateQ32,uint8 attempt,uint32 coordId,uint32 statsEpoch,bytes32 reqHash,uint40 deadline)";
    string private constant _STOP = "Stop(bytes32 spec,uint40 deadline)";
    string private constant _RESIZE = "Resize(bytes32 offer,uint32 nodeId,uint128 rateQ32)";
    string private constant _DECLINE = "Decline(bytes32 spec,uint32 nodeId,uint8 attempt,uint8 reason)";
    string private constant _SILENCE = "Silence(bytes32 spec,uint32 nodeId,uint8 attempt)";
    string private constant _ACCUSATION =
        "Accusation(uint8 kind,uint32 nodeId,bytes32 ref,uint32 occurrence,uint8 severity,bytes32 evidence)";
    string private constant _VERDICT = "Verdict(bytes32 caseId,bool guilty)";
    string private constant _REGISTER = "Register(address owner,uint8 kind,bytes32 peerIdHash)";
    string private constant _SET_SIGNER = "SetSigner(uint32 nodeId,address owner)";
    string private constant _HEARTBEAT = "Heartbeat(uint32 epoch,bytes32 statsRoot,bytes32 bitmapHash)";
    string private constant _REQUEST =
        "StoreRequest(address payer,uint32 nodeId,bytes32 root,uint64 size,bytes32 itemHash,uint24 untilDay,uint8 k,uint8 token,uint96 rateQ32,uint40 deadline)";
    string private constant _EXTENSION = "StoreExtension(uint128 id,uint24 untilDay)";
    string private constant _REPAIR = "StoreRepair(uint128 id,uint32 nodeId)";
    string private constant _RECEIPT =
        "StorageReceipt(uint32 nodeId,bytes32 root,uint64 leaves,uint24 sinceDay,uint24 untilDay,address holder)";
    string private constant _DAY = "DayAttestation(uint24 day,bytes32 seed,bytes32 bitmapRoot)";
    string private constant _DNS = "DnsAttestation(bytes32 key,address owner,uint32 nonce,uint8 method,uint40 seenAt)";
    string private constant _REVOCATION = "Revocation(bytes32 key,uint32 nonce,bytes32 spkiHash,bytes32 evidence)";
    string private constant _TAKEDOWN = "Takedown(uint32 seq,bytes32 imageId,bytes32 reason)";
    string private constant _DELEGATION = "Delegation(address delegatee,uint256 nonce,uint256 expiry)";

    function _fixedOffer() private pure returns (IJobManager.JobOffer memory) {
        return IJobManager.JobOffer(
            SPEC, vm.addr(KEY), 1, 4294967296000000000000, 3, 7, 5, NEEDS, 1_760_000_000, 1_750_000_600, 258
        );
    }

    function _fixedAssignment() private pure returns (IJobManager.Assignment memory) {
        return IJobManager.Assignment(SPEC, 5, 4294967296000000000, 0, 1, 486_111, NEEDS, 1_750_000_600);
    }

    function _offerHash() private pure returns (bytes32) {
        IJobManager.JobOffer memory o = _fixedOffer();
        return keccak256(
            abi.encode(
                keccak256(bytes(_OFFER)),
                o.spec,
                o.payer,
                o.token,
                o.maxRateQ32,
                o.slaClass,
                o.imageSeq,
                o.nodeHint,
                o.reqHash,
                o.maxUntil,
                o.deadline,
                o.nonce
            )
        );
    }

    function _assignmentHash(string memory name) private pure returns (bytes32) {
        IJobManager.Assignment memory a = _fixedAssignment();
        bytes32 typeHash =
            keccak256(bytes(name)) == keccak256("Accept") ? keccak256(bytes(_ACCEPT)) : keccak256(bytes(_ASSIGNMENT));
        return keccak256(
            abi.encode(typeHash, a.spec, a.nodeId, a.rateQ32, a.attempt, a.coordId, a.statsEpoch, a.reqHash, a.deadline)
        );
    }

    function _stopHash() private pure returns (bytes32) {
        return keccak256(abi.encode(keccak256(bytes(_STOP)), SPEC, DEADLINE));
    }

    function _resizeHash() private pure returns (bytes32) {
        return keccak256(abi.encode(keccak256(bytes(_RESIZE)), _offerHash(), 5, 4294967296000000000));
    }

    function _declineHash() private pure returns (bytes32) {
        return keccak256(abi.encode(keccak256(bytes(_DECLINE)), SPEC, 5, 2, 17));
    }

    function _silenceHash() private pure returns (bytes32) {
        return keccak256(abi.encode(keccak256(bytes(_SILENCE)), SPEC, 5, 2));
    }

    function _accusationHash() private pure returns (bytes32) {
        return keccak256(abi.encode(keccak256(bytes(_ACCUSATION)), 10, 5, SPEC, 2, 1, NEEDS));
    }

    function _verdictHash() private pure returns (bytes32) {
        return keccak256(abi.encode(keccak256(bytes(_VERDICT)), NEEDS, true));
    }

    function _registerHash(address owner, bytes memory peerId) private pure returns (bytes32) {
        return keccak256(abi.encode(keccak256(bytes(_REGISTER)), owner, INodeRegistry.Kind.Compute, keccak256(peerId)));
    }

    function _setSignerHash(uint32 id, address owner) private pure returns (bytes32) {
        return keccak256(abi.encode(keccak256(bytes(_SET_SIGNER)), id, owner));
    }

    function _heartbeatHash() private pure returns (bytes32) {
        return keccak256(abi.encode(keccak256(bytes(_HEARTBEAT)), 486_111, ROOT, SEED));
    }

    function _fixedRequest() private pure returns (IStorageWords.Request memory) {
        return IStorageWords.Request(5, ROOT, 1000, SPEC, 20_300, 3, 1, 1 << 40, DEADLINE);
    }

    function _requestHash() private pure returns (bytes32) {
        bytes32 kind = keccak256(bytes(_REQUEST));
        return keccak256(
            abi.encode(kind, vm.addr(KEY), 5, ROOT, 1000, SPEC, 20_300, 3, 1, uint256(1 << 40), uint256(DEADLINE))
        );
    }

    function _extensionHash() private pure returns (bytes32) {
        return keccak256(abi.encode(keccak256(bytes(_EXTENSION)), OBJECT, 20_300));
    }

    function _repairHash() private pure returns (bytes32) {
        return keccak256(abi.encode(keccak256(bytes(_REPAIR)), OBJECT, 6));
    }

    function _fixedReceipt() private pure returns (IStorageWords.StorageReceipt memory) {
        return IStorageWords.StorageReceipt(5, ROOT, 9, 20_255, 20_300, ALICE);
    }

    function _receiptHash() private pure returns (bytes32) {
        return keccak256(abi.encode(keccak256(bytes(_RECEIPT)), 5, ROOT, 9, 20_255, 20_300, ALICE));
    }

    function _dayHash(bytes32 seed) private pure returns (bytes32) {
        return keccak256(abi.encode(keccak256(bytes(_DAY)), 20_255, seed, ROOT));
    }

    function _dnsHash() private pure returns (bytes32) {
        return keccak256(abi.encode(keccak256(bytes(_DNS)), ROOT, ALICE, 7, 2, DEADLINE));
    }

    function _revocationHash() private pure returns (bytes32) {
        return keccak256(abi.encode(keccak256(bytes(_REVOCATION)), ROOT, 7, SEED, NEEDS));
    }

    function _takedownHash() private pure returns (bytes32) {
        return keccak256(abi.encode(keccak256(bytes(_TAKEDOWN)), 1, SPEC, NEEDS));
    }

    function _delegationHash() private pure returns (bytes32) {
        return keccak256(abi.encode(keccak256(bytes(_DELEGATION)), ALICE, 0, DEADLINE));
    }

    function _separator(string memory name, address at) private pure returns (bytes32) {
        return keccak256(
            abi.encode(
                keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"),
                keccak256(bytes(name)),
                keccak256("1"),
                31337,
                at
            )
        );
    }
}
