// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {JobManager} from "../src/JobManager.sol";
import {NodeRegistry} from "../src/NodeRegistry.sol";
import {Peers} from "../src/Peers.sol";
import {IJobManager} from "../src/interfaces/IJobManager.sol";
import {INodeRegistry} from "../src/interfaces/INodeRegistry.sol";
import {Suite} from "./utils/Suite.sol";
import {ERC1967Proxy} from "@openzeppelin/contracts/proxy/ERC1967/ERC1967Proxy.sol";

/// @title Vectors
/// @notice The EIP-712 cases that Go signs and checks, too: protocol/testdata/vectors/eip712.json is what the contracts
/// compute. With WRITE_VECTORS=true the file is written, else it is compared.
contract VectorsTest is Suite {
    string internal constant FILE = "../protocol/testdata/vectors/eip712.json";
    uint256 internal constant KEY = 0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80;
    address internal constant JOBS_AT = 0x5FbDB2315678afecb367f032d93F642f64180aa3;
    address internal constant NODES_AT = 0xe7f1725E7734CE288F8367e1Bb143E90bb3F0512;
    address internal constant SLA_AT = 0x9fE46736679d2D9a65F0992F2272dE9f3c7fa6e0;
    bytes32 internal constant SPEC = sha256("instance");
    bytes32 internal constant NEEDS = keccak256("needs");

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
        string memory json = string.concat("[\n", _jobCases(), ",\n", _slaCases(), ",\n", _nodeCases(), "\n]\n");
        if (vm.envOr("WRITE_VECTORS", false)) vm.writeFile(FILE, json);
        assertEq(vm.readFile(FILE), json, "vectors differ: run `make contracts-vectors`");
    }

    function test_vectors_digestsAreTheContracts() public view {
        IJobManager j = IJobManager(JOBS_AT);
        assertEq(_digest("AlephJobs", JOBS_AT, _offerHash()), j.offerDigest(_fixedOffer()));
        assertEq(_digest("AlephJobs", JOBS_AT, _assignmentHash("Accept")), j.acceptDigest(_fixedAssignment()));
        assertEq(_digest("AlephJobs", JOBS_AT, _assignmentHash("Assignment")), j.assignmentDigest(_fixedAssignment()));
        assertEq(_digest("AlephJobs", JOBS_AT, _stopHash()), j.stopDigest(SPEC, 1_750_000_600));
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
            _case("AlephNodes", NODES_AT, "SetSigner", _SET_SIGNER, setSigner, _setSignerHash(5, owner))
        );
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
        return keccak256(abi.encode(keccak256(bytes(_STOP)), SPEC, 1_750_000_600));
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
